"""Promises 1, 2 and 7 of the transfer module: what is frozen does not move, and freezing works at any time."""

import hashlib

import numpy as np
import pytest

import minidl.nn.functional as F
from minidl import nn, optim
from minidl.tensor import Tensor
from minidl.transfer import freeze, frozen, trainable, unfreeze


def network():
    return nn.Sequential({
        "body": nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8)),
        "norm": nn.BatchNorm1d(8),
        "head": nn.Linear(8, 3),
    })


def hashes(model, front=""):
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in model.state_dict().items()
            if name.startswith(front)}


def train(model, optimizer, steps, seed=0):
    """Some steps on random data; train() is called each time, as a training loop would."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        model.train()
        x = Tensor(rng.standard_normal((5, 6)).astype(np.float32))
        loss = F.cross_entropy(model(x), Tensor(rng.integers(0, 3, 5)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3], ids=["from the start", "in mid-training"])
def test_promise_1_every_frozen_tensor_and_buffer_has_the_same_hash_after_200_steps(name, before):
    model = network()
    optimizer = OPTIMIZERS[name](model.named_parameters())
    train(model, optimizer, before)
    freeze(model, "body")
    body, rest = hashes(model, "body."), hashes(model, "head.")
    train(model, optimizer, 200)
    assert hashes(model, "body.") == body
    assert all(hashes(model, "head.")[name] != rest[name] for name in rest)


def test_promise_1_frozen_batchnorm_uses_its_stored_statistics_and_frozen_dropout_is_off_after_train():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    train(model, optimizer, 5)
    x = Tensor(np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32))
    expected = model.eval().body(x).numpy()
    freeze(model.train(), "body").train()
    assert not any(module.training for module in model.body.modules())
    assert model.training and model.norm.training
    np.testing.assert_array_equal(model.body(x).numpy(), expected)


def test_promise_1_setting_training_by_hand_does_not_undo_freezing():
    model = freeze(network(), "body")
    for module in model.modules():
        module.training = True
    assert not model.body[1].training and not model.body[2].training and model.norm.training


def test_promise_1_batchnorm_train_is_the_explicit_exception():
    model = freeze(network(), "body", batchnorm="train").train()
    before = hashes(model, "body.")
    train(model, OPTIMIZERS["sgd"](model.parameters()), 3)
    moved = {name for name, value in hashes(model, "body.").items() if value != before[name]}
    assert moved == {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}
    assert not model.body[2].training
    freeze(model, "body")
    assert not model.body[1].training


def test_promise_1_no_gradient_reaches_what_is_frozen_and_old_ones_are_dropped():
    model = network()
    train(model, OPTIMIZERS["sgd"](model.parameters()), 1)
    assert model.body[0].weight.grad is not None
    freeze(model, "body")
    assert all(p.grad is None and not p.requires_grad for p in model.body.parameters())
    F.cross_entropy(model(Tensor(np.ones((2, 6)))), Tensor(np.array([0, 1]))).backward()
    assert all(p.grad is None for p in model.body.parameters())
    assert model.head.weight.grad is not None


def test_promise_2_unfreezing_needs_no_new_parameter_group():
    model = freeze(network(), "body")
    optimizer = OPTIMIZERS["adam"](model.named_parameters())
    train(model, optimizer, 2)
    body = hashes(model, "body.")
    unfreeze(model, "body")
    assert all(module.training for module in model.body.modules())
    train(model, optimizer, 2)
    assert all(value != body[name] for name, value in hashes(model, "body.").items())


def test_promise_7_a_pattern_that_matches_nothing_raises_with_the_nearest_names_and_changes_nothing():
    model = network()
    with pytest.raises(ValueError, match="'bodi' matches nothing; did you mean 'body'"):
        freeze(model, "head", "bodi")
    assert frozen(model) == 0 and not model.head.frozen
    with pytest.raises(ValueError, match=r"'\*\.bais' matches nothing"):
        unfreeze(model, "*.bais")
    with pytest.raises(ValueError, match="the Linear given is not part of this model"):
        freeze(model, nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"one by one, not a list: freeze\(model, \*patterns\)"):
        freeze(model, ["body", "head"])
    with pytest.raises(ValueError, match="batchnorm must be 'eval' or 'train'"):
        freeze(model, "body", batchnorm="batch")


def test_promise_7_freezing_and_unfreezing_are_idempotent():
    model = network()
    states = []
    for verb in (freeze, freeze, unfreeze, unfreeze):
        verb(model, "body")
        states.append([(m.frozen, m.training) for m in model.modules()] + [p.requires_grad for p in model.parameters()])
    assert states[0] == states[1] != states[2] == states[3]
    assert states[2] == [(m.frozen, m.training) for m in network().modules()] + [True] * 10


def test_without_patterns_everything_is_frozen_and_a_part_can_be_unfrozen():
    model = freeze(network())
    assert trainable(model) == 0 and frozen(model) == sum(p.numel() for p in model.parameters())
    assert not model.training
    unfreeze(model, "head")
    assert trainable(model) == 8 * 3 + 3
    assert model.training and model.head.training and not model.norm.training


@pytest.mark.parametrize("pattern, expected", [
    ("*.bias", {"body.0.bias", "body.1.bias", "body.3.bias", "norm.bias", "head.bias"}),
    ("body.?.weight", {"body.0.weight", "body.1.weight", "body.3.weight"}),
    ("head", {"head.weight", "head.bias"}),
    ("body.*", {f"body.{i}.{kind}" for i in (0, 1, 3) for kind in ("weight", "bias")}),
])
def test_patterns_fit_modules_and_parameters(pattern, expected):
    model = freeze(network(), pattern)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == expected


def test_a_module_or_parameter_stands_for_itself():
    model = network()
    freeze(model, model.body[0], model.head.bias)
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert still == {"body.0.weight", "body.0.bias", "head.bias"}
    assert model.body[0].frozen and not model.head.frozen


def test_a_module_whose_own_parameters_are_all_frozen_by_name_counts_as_frozen():
    model = freeze(network(), "body.1.weight")
    assert model.body[1].training
    freeze(model, "body.1.bias")
    assert model.body[1].frozen and not model.train().body[1].training
    statistics = hashes(model, "body.1.")
    train(model, OPTIMIZERS["sgd"](model.parameters()), 2)
    assert hashes(model, "body.1.") == statistics
    unfreeze(model, "body.1.bias")
    assert model.body[1].training and not model.body[1].weight.requires_grad


def test_eval_asked_for_while_frozen_holds_after_unfreezing():
    model = freeze(network())
    model.eval()
    unfreeze(model)
    assert not any(module.training for module in model.modules())


def test_the_summary_leaves_modes_and_hooks_as_they_were():
    model = freeze(network(), "body")
    calls = []
    model.head.register_forward_hook(lambda *_: calls.append(1))
    model.summary((6,))
    unfreeze(model)
    assert all(module.training for module in model.modules())
    assert not calls
    model(Tensor(np.ones((2, 6))))
    assert calls == [1]
