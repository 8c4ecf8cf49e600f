"""fine_tune and its pieces: groups by depth on every network of the zoo, rates, unfreezing, what each phase leaves."""

import functools
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import nn, optim, transfer
from minidl.data import DataLoader, TensorDataset, mnist, random_split
from minidl.models import GPT, BertModel, RecurrentClassifier, SentenceEncoder, create_model, list_models, mnist_cnn
from minidl.nn import init
from minidl.train import Callback, Trainer, accuracy, fine_tune, train_head
from minidl.train.finetune import FEWEST, HEAD_STEPS, MOST, STEPS, _Tuning, default_rate, one_cycle
from minidl.transfer import freeze, layer_groups, layerwise_parameters, rehead, unfreeze_next, unfreeze_top
from minidl.transfer.depth import unfrozen_groups

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "resnet20_transfer.py"
GROUPS = {  # name: options, number of groups, the first, the last before the head, the head
    "alexnet": ({"hidden": 8}, 8, ["features.0"], ["classifier.4"], ["classifier.6"]),
    "cifar_cnn": ({}, 5, ["features.conv1"], ["classifier.dense"], ["classifier.output"]),
    "efficientnet_lite0": ({}, 19, ["conv_stem", "bn1"], ["conv_head", "bn2"], ["classifier"]),
    "inception_v3": ({}, 19, ["Conv2d_1a_3x3"], ["Mixed_7c"], ["fc", "AuxLogits.fc"]),
    "lenet5": ({}, 5, ["conv1"], ["fc2"], ["fc3"]),
    "mnist_cnn": ({}, 4, ["features.conv1"], ["classifier.dense"], ["classifier.output"]),
    "mobilenet_v2": ({}, 20, ["features.0"], ["features.18"], ["classifier.1"]),
    "resnet18": ({}, 10, ["conv1", "bn1"], ["layer4.1"], ["fc"]),
    "resnet50": ({}, 18, ["conv1", "bn1"], ["layer4.2"], ["fc"]),
    "resnet20": ({}, 11, ["conv1", "bn1"], ["layer3.2"], ["linear"]),
    "vgg11_bn": ({"hidden": 8}, 11, ["features.0", "features.1"], ["classifier.3"], ["classifier.6"]),
    "vgg16": ({"hidden": 8}, 16, ["features.0"], ["classifier.3"], ["classifier.6"]),
}


def bert():
    minidl.seed(0)
    encoder = BertModel(vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
                        max_position_embeddings=12)
    return nn.Sequential({"encoder": SentenceEncoder(encoder), "head": nn.Linear(8, 2)})


def lstm():
    minidl.seed(0)
    return RecurrentClassifier(20, 2, embedding_dim=6, hidden_size=5, dropout=0.2)


def network(classes=3, draw=0):
    """Two convolutions with BatchNorm, dropout before the head."""
    minidl.seed(draw)
    return nn.Sequential({
        "conv1": nn.Conv2d(1, 4, 3, bias=False), "norm1": nn.BatchNorm2d(4), "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(4, 6, 3, bias=False), "norm2": nn.BatchNorm2d(6), "relu2": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(2), "flatten": nn.Flatten(), "drop": nn.Dropout(0.5),
        "head": nn.Linear(24, classes),
    })


def blobs(count=30, classes=3):
    draw = np.random.default_rng(4)
    labels = np.arange(count) % classes
    return (draw.standard_normal((count, 1, 8, 8)) + labels[:, None, None, None]).astype(np.float32), labels


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def covered(model, groups):
    """The tensors of each group, by their names in `state_dict`."""
    names = list(model.state_dict())
    return [[name for name in names if any(name == path or name.startswith(f"{path}.") for path in group)]
            for group in groups]


@pytest.mark.parametrize("name", list_models())
def test_every_network_of_the_zoo_has_groups_that_hold_each_tensor_once(name):
    options, count, first, last, head = GROUPS.get(name, ({"hidden": 8} if "vgg" in name else {}, *[None] * 4))
    with init.skipped():
        model = create_model(name, 4, **options)
    groups = layer_groups(model)
    if count is not None:
        assert (len(groups), groups[0], groups[-2], groups[-1]) == (count, first, last, head)
    tensors = [tensor for group in covered(model, groups) for tensor in group]
    assert sorted(tensors) == sorted(model.state_dict()), "a tensor is missing or in two groups"
    held = [parameter for group in layerwise_parameters(model, 1.0) for _, parameter in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    order = list(model.state_dict())
    starts = [order.index(group[0]) for group in covered(model, groups)[:-1]]
    assert starts == sorted(starts)


def test_texts_and_plain_networks_have_groups_too():
    assert layer_groups(bert()) == [
        ["encoder.bert.embeddings"], *[[f"encoder.bert.encoder.layer.{n}"] for n in range(3)], ["encoder.bert.pooler"],
        ["head"]]
    assert layer_groups(lstm()) == [["embedding"], ["recurrent"], ["output"]]
    assert layer_groups(network()) == [["conv1", "norm1"], ["conv2", "norm2"], ["head"]]
    plain = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.LayerNorm(5),
                          nn.Linear(5, 2), nn.Softmax(1))
    assert layer_groups(plain) == [["0", "1"], ["3", "4"], ["5"]]
    assert layer_groups(create_model("lenet5"), head="fc2") == [["conv1"], ["conv2"], ["fc1"], ["fc3"], ["fc2"]]


def test_a_language_model_has_a_head_or_must_be_told_one():
    sizes = {"vocab_size": 9, "block_size": 6, "n_layer": 3, "n_head": 2, "n_embd": 8}
    assert layer_groups(GPT(**sizes, tied=False)) == [["wte", "wpe"], ["h.0"], ["h.1"], ["h.2", "ln_f"], ["lm_head"]]
    with pytest.raises(ValueError, match="'h.2.mlp.c_proj', lies in a GPTBlock, of which there are several"):
        layer_groups(GPT(**sizes))
    assert layer_groups(GPT(**sizes), head="ln_f")[-2:] == [["h.2"], ["ln_f"]]


def test_a_network_inside_another_is_looked_into_and_loose_parameters_are_found():
    class Wrapped(nn.Module):
        def __init__(self):
            self.token = nn.Parameter(np.zeros((1, 4), np.float32))
            self.backbone = create_model("resnet20")
            self.backbone.linear = nn.Identity()
            self.fc = nn.Linear(64, 2)

    groups = layer_groups(Wrapped())
    assert groups[0] == ["token", "backbone.conv1", "backbone.bn1"] and groups[-1] == ["fc"] and len(groups) == 11
    model = Wrapped()
    unfreeze_top(model, 9)
    assert not model.token.requires_grad and model.backbone.layer1[0].conv1.weight.requires_grad
    unfreeze_top(model, 10)
    assert model.token.requires_grad


def test_tied_parameters_have_one_rate():
    table = nn.Embedding(7, 4)
    model = nn.Sequential({"table": table, "hidden": nn.Linear(4, 4), "head": nn.Linear(4, 7)})
    model.head.weight = table.weight
    groups = layerwise_parameters(model, 1.0, 0.5)
    assert [[name for name, _ in group["params"]] for group in groups] == [
        ["table.weight"], ["hidden.weight", "hidden.bias"], ["head.bias"]]
    optim.AdamW(groups)


def test_rates_fall_by_the_same_factor_from_group_to_group():
    model = create_model("lenet5")
    given = layerwise_parameters(model, 0.4, 0.5, head_lr=3.0)
    assert [group["lr"] for group in given] == [0.05, 0.1, 0.2, 0.4, 3.0]
    assert [group["name"] for group in given] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    rates = [group["lr"] for group in layerwise_parameters(model, 1.0)]
    np.testing.assert_allclose(rates, [0.2, 0.2 ** (2 / 3), 0.2 ** (1 / 3), 1, 1])
    weights = {name: parameter.numpy().copy() for name, parameter in model.named_parameters()}
    optimizer = optim.SGD(given)
    for parameter in model.parameters():
        parameter.grad = minidl.ones_like(parameter)
    optimizer.step()
    for name, rate in (("conv1.bias", 0.05), ("fc1.weight", 0.2), ("fc3.bias", 3.0)):
        moved = weights[name] - dict(model.named_parameters())[name].numpy()
        np.testing.assert_allclose(moved, rate, rtol=1e-5)
    for wrong in (0, 1.5, -1, True):
        with pytest.raises(ValueError, match="decay must be above 0 and at most 1"):
            layerwise_parameters(model, 1.0, wrong)


def test_unfreezing_group_by_group():
    model = freeze(network())
    assert unfreeze_top(model, 0) == ["head"] and unfrozen_groups(model) == 0
    assert not model.train().drop.training, "dropout before the first trainable layer is off"
    assert unfreeze_next(model) == ["conv2", "norm2"] and unfrozen_groups(model) == 1
    model.train()
    assert [model.norm1.training, model.norm2.training, model.drop.training] == [False, True, True]
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "conv1.weight", "norm1.weight", "norm1.bias"}
    assert unfreeze_next(model, batchnorm="eval") == ["conv1", "norm1"]
    model.train()
    assert not model.norm1.training and not model.norm1.weight.requires_grad and model.conv1.weight.requires_grad
    with pytest.raises(ValueError, match="nothing to unfreeze, all 2 groups"):
        unfreeze_next(model)
    unfreeze_top(model, 2)
    assert model.norm1.train().training and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("make, data", [
    (network, blobs()),
    (lambda: create_model("resnet20", 3), (np.repeat(blobs(12)[0], 3, 1), blobs(12)[1])),
])
def test_in_the_head_phase_everything_else_keeps_its_bits(make, data):
    model = make()
    before = bits(model)
    history = train_head(model, data, epochs=2, batch_size=8, progress=False)
    after = bits(model)
    head = layer_groups(model)[-1][0]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"{head}.weight", f"{head}.bias"}
    assert history["phase"] == ["head", "head"] and history.phases[0]["trained"] == [head]
    assert history.phases[0]["lr"] == {head: 1e-2}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == changed


def test_the_history_says_what_was_trained_when_and_nothing_else_moved():
    model, seen = network(), []
    frozen_moved = []

    class Watch(Callback):
        def on_fit_begin(self, trainer):
            self.before = bits(model)
            self.frozen = [name for group in covered(model, layer_groups(model)) for name in group
                           if not any(p.requires_grad for n, p in model.named_parameters() if n in group)]
            seen.append([group["lr"] for group in trainer.optimizer.param_groups])

        def on_fit_end(self, trainer):
            after = bits(model)
            frozen_moved.extend(name for name in self.frozen if after[name] != self.before[name])
            frozen_moved.extend(name for name in after if name not in self.frozen and after[name] == self.before[name])

    history = fine_tune(model, blobs(), blobs(12), head_epochs=1, epochs=5, stages=2, head_lr=0.02, lr=0.01, decay=0.5,
                        batch_size=10, callbacks=[Watch()], progress=False)
    assert frozen_moved == []
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["phase"] == ["head", "top 1 of 2", "top 1 of 2", "all", "all", "all"]
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy", "lr", "seconds"} <= set(history)
    assert [(phase["phase"], phase["epochs"], phase["parameters"]) for phase in history.phases] == [
        ("head", 1, 75), ("top 1 of 2", 2, 75 + 228), ("all", 3, 75 + 228 + 44)]
    assert history.phases[0]["lr"] == {"head": 0.02}
    assert history.phases[2]["lr"] == {"conv1, norm1": 0.005, "conv2, norm2": 0.01, "head": 0.01}
    assert history.phases[1]["trained"] == ["conv2", "norm2", "head"]
    np.testing.assert_allclose(seen[0], np.array([0.005, 0.01, 0.02]) * one_cycle(0, 3), rtol=1e-9)
    np.testing.assert_allclose(seen[2], np.array([0.005, 0.01, 0.01]) * one_cycle(0, 9), rtol=1e-9)
    assert "top 1 of 2: 2 epochs, 303 parameters" in history.table()


def test_the_rate_goes_up_and_down_once():
    for steps in (1, 2, 3, 10, 101):
        parts = [one_cycle(step, steps) for step in range(steps)]
        top = int(np.argmax(parts))
        assert parts[:top + 1] == sorted(parts[:top + 1]) and parts[top:] == sorted(parts[top:], reverse=True)
        assert 0 < min(parts) and 0.5 < max(parts) <= 1 and one_cycle(steps, steps) == parts[-1]
    assert parts[0] < 0.01 > parts[-1] and max(parts) > 0.999 and top == round(0.3 * 102) - 1


def test_it_is_nothing_but_its_pieces():
    """The same bits as the head trained alone, then a stage of one's own with the pieces, Adam's state kept."""
    data, order = blobs(), np.random.default_rng(8)
    whole = network()
    fine_tune(whole, data, head_epochs=2, epochs=2, generator=order, batch_size=10, progress=False)
    model, order = network(), np.random.default_rng(8)
    loader = DataLoader(TensorDataset(*data), 10, shuffle=True, generator=order)
    optimizer = optim.AdamW(layerwise_parameters(model, 3e-3))
    top = [group["lr"] for group in optimizer.param_groups]
    for count, head_lr in ((0, 1e-2), (2, 3e-3)):
        unfreeze_top(model, count)
        for epoch in range(2):
            model.train()
            for number, (inputs, target) in enumerate(loader):
                for group, rate in zip(optimizer.param_groups, [*top[:-1], head_lr]):
                    group["lr"] = rate * one_cycle(3 * epoch + number, 6)
                optimizer.zero_grad()
                nn.CrossEntropyLoss()(model(inputs), target).backward()
                optimizer.step()
    assert bits(whole) == bits(model)


def test_it_goes_on_after_ctrl_c():
    class Press(Callback):
        def on_epoch_end(self, trainer, epoch, figures):
            if trainer.model.conv2.weight.requires_grad:
                os.kill(os.getpid(), signal.SIGINT)

    model = network()
    history = fine_tune(model, blobs(), head_epochs=1, epochs=4, stages=2, callbacks=[Press()], progress=False)
    assert history.interrupted and history["phase"] == ["head", "top 1 of 2"]
    assert [phase["epochs"] for phase in history.phases] == [1, 1] and unfrozen_groups(model) == 1
    assert all(np.isfinite(value.numpy()).all() for value in model.state_dict().values())
    more = fine_tune(model, blobs(), head_epochs=0, epochs=2, progress=False)
    assert not more.interrupted and more["phase"] == ["all", "all"] and unfrozen_groups(model) == 2


def test_the_best_epoch_of_all_phases_is_put_back():
    class Spoil(Callback):
        """The last epoch ruins the model."""

        def on_epoch_begin(self, trainer, epoch):
            if trainer.model.conv1.weight.requires_grad and epoch == 2:
                trainer.model.head.weight.array[...] = 0
                trainer.model.head.bias.array[...] = [9, 0, 0]
                freeze(trainer.model, "head.bias")

    train, test = blobs(60), blobs(30)
    model = network()
    history = fine_tune(model, train, test, head_epochs=3, epochs=2, callbacks=[Spoil()], keep_best=True,
                        progress=False)
    measured = Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(test)["accuracy"]
    assert measured == max(history["validation_accuracy"]) > history["validation_accuracy"][-1]


def test_batchnorm_follows_the_data_or_not_as_asked():
    for batchnorm in ("train", "eval"):
        model = network()
        before = bits(model)
        fine_tune(model, blobs(), head_epochs=1, epochs=1, batchnorm=batchnorm, progress=False)
        after = bits(model)
        moved = {name for name in before if before[name] != after[name]}
        assert {"conv1.weight", "conv2.weight", "head.weight"} <= moved
        assert ("norm1.running_mean" in moved) == ("norm2.weight" in moved) == (batchnorm == "train")


def test_networks_for_text_and_with_an_auxiliary_head_are_tuned():
    ids, labels = np.random.default_rng(0).integers(1, 20, (16, 6)), np.arange(16) % 2
    for model, data in ((bert(), (ids, labels)), (lstm(), (ids, np.full(16, 6), labels))):
        before = bits(model)
        history = fine_tune(model, data, head_epochs=1, epochs=1, batch_size=8, progress=False)
        assert history["phase"] == ["head", "all"] and np.isfinite(history["loss"]).all()
        used = [name for name in before if "pooler" not in name and "token_type" not in name]
        assert [name for name in used if bits(model)[name] == before[name]] == []

    class Auxiliary(nn.Module):
        auxiliary_heads = ("side",)

        def __init__(self):
            self.body, self.side, self.fc = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x = self.body(x).relu()
            return (self.fc(x), self.side(x)) if self.training else self.fc(x)

    model = Auxiliary()
    before = bits(model)
    data = np.random.default_rng(0).random((12, 3), np.float32), np.arange(12) % 2
    history = fine_tune(model, data, data, head_epochs=1, epochs=1, progress=False)
    assert history.phases[0]["trained"] == ["fc", "side"] and "validation_accuracy" in history
    assert not [name for name in before if bits(model)[name] == before[name]]


def test_another_loss_optimiser_and_metric():
    inputs = np.random.default_rng(0).random((20, 4), np.float32)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    history = fine_tune(model, (inputs, inputs[:, :1]), loss=nn.MSELoss(), head_epochs=1, epochs=4,
                        optimizer=functools.partial(optim.SGD, momentum=0.9), progress=False)
    assert "accuracy" not in history and history["loss"][-1] < history["loss"][0]


def test_the_rate_suits_the_kind_of_network_unless_given():
    with init.skipped():
        networks = {"resnet20": 3e-3, "vgg11_bn": 3e-3, "lenet5": 3e-3, "vgg11": 1e-4, "alexnet": 1e-4}
        for name, rate in networks.items():
            options = {} if name in ("resnet20", "lenet5") else {"hidden": 8}
            assert default_rate(create_model(name, **options)) == rate
    assert default_rate(lstm()) == 3e-3
    encoder = BertModel(vocab_size=20, hidden_size=8, num_hidden_layers=6, num_attention_heads=2, intermediate_size=16)
    assert default_rate(nn.Sequential(SentenceEncoder(encoder), nn.Linear(8, 2))) == 1e-4
    assert fine_tune(network(), blobs(), head_epochs=0, epochs=1, progress=False).phases[0]["lr"]["head"] == 3e-3
    history = fine_tune(network(), blobs(), head_epochs=0, epochs=1, lr=0.5, progress=False)
    assert history.phases[0]["lr"]["head"] == 0.5


def test_epochs_make_a_number_of_steps_unless_given():
    model, data = network(), blobs(60)
    history = fine_tune(model, data, batch_size=1, progress=False, callbacks=[Stop()])
    assert [phase["epochs"] for phase in history.phases] == [1, 1]
    options = ("t", model, data, None, None, 1e-3, None, "train")
    rest = (None, optim.AdamW, None, None, None, (), False, False)
    for batch, steps, expected in ((1, HEAD_STEPS, FEWEST), (60, STEPS, MOST), (2, STEPS, -(-STEPS // 30))):
        assert _Tuning(*options, batch, *rest).epochs("epochs", None, steps) == expected


class Stop(Callback):
    def on_epoch_end(self, trainer, epoch, figures):
        trainer.stop("enough")


@pytest.mark.parametrize("wrong, message", [
    (lambda m, d: fine_tune(m, (d[0], d[1] + 10)), r"head 'head' has 3 outputs, labels of train reach 12: "
                                                   r"rehead\(model, 13\)"),
    (lambda m, d: fine_tune(m, d, (d[0], d[1] + 1)), "labels of validation reach 3"),
    (lambda m, d: fine_tune(m, (d[0], d[1] - 1)), "reach down to -1; classes are counted from 0"),
    (lambda m, d: fine_tune(m, (d[0], d[1] * 0)), "all 30 training labels are 0, there is nothing to tell apart"),
    (lambda m, d: fine_tune(m, DataLoader(TensorDataset(d[0], d[1] + 9), 4)), "rehead"),
    (lambda m, d: fine_tune(m, random_split(TensorDataset(d[0], d[1] + 9), [20, 10])[0]), "rehead"),
    (lambda m, d: fine_tune(m, d, stages=3), "whole number from 1 to 2"),
    (lambda m, d: fine_tune(m, d, epochs=1, stages=2), "cannot be shared among 2 stages"),
    (lambda m, d: fine_tune(m, d, epochs=0, head_epochs=0), "nothing to do"),
    (lambda m, d: fine_tune(m, d, epochs=-1), "epochs must be a whole number from 0"),
    (lambda m, d: fine_tune(m, d, batchnorm="freeze"), "batchnorm must be"),
    (lambda m, d: fine_tune(m, d, keep_best=True), "needs validation data"),
    (lambda m, d: fine_tune(m, d, optimizer=optim.SGD(m.parameters())), "give the class SGD"),
    (lambda m, d: fine_tune(m, iter([])), "give a DataLoader, a data set or arrays"),
    (lambda m, d: fine_tune(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), d), "no head that can be recognised"),
    (lambda m, d: fine_tune(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), d), "comes before its head"),
    (lambda m, d: train_head(m, d, epochs=0), "nothing to do"),
    (lambda m, d: layer_groups(m, "relu1"), "has no parameters"),
    (lambda m, d: unfreeze_top(m, -1), "count must be"),
    (lambda m, d: unfreeze_top(m, 99), "count 99 is more than the 2 groups"),
])
def test_wrong_use_is_refused_and_the_model_left_alone(wrong, message):
    model = network()
    before = bits(model), [(m._mode, m.frozen) for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises((ValueError, TypeError), match=message):
        wrong(model, blobs())
    assert before == (bits(model), [(m._mode, m.frozen) for m in model.modules()],
                      [p.requires_grad for p in model.parameters()])


def test_a_head_of_another_task_is_noticed():
    with pytest.warns(UserWarning, match=r"has 12 outputs, labels reach no higher than 2; .* rehead\(model, 3\)"):
        train_head(network(12), blobs(), epochs=1, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_head(rehead(network(12), 8), blobs(), epochs=1, progress=False)
        train_head(network(5), blobs(), epochs=1, progress=False)


def test_it_learns_a_new_task_from_twenty_images():
    """From the ten digits of the embedded MNIST to odd or even, learnt from 20 images."""
    digits, test = mnist("train", subset=1000), mnist("test").first(500)
    few = digits.first(20)
    few, parity = [(data.arrays()[0], data.labels % 2) for data in (few, test)]

    def measured(model):
        return Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(parity)["accuracy"]

    minidl.seed(0)
    source = mnist_cnn(hidden=32)
    Trainer(source, nn.CrossEntropyLoss(), optim.Adam(source.named_parameters())).fit(digits, epochs=4, progress=False)
    tuned = rehead(source, 2)
    fine_tune(tuned, few, head_epochs=10, epochs=20, progress=False)
    assert measured(tuned) > 0.7


def test_transfer_offers_what_trains_and_nothing_else():
    assert transfer.fine_tune is fine_tune is minidl.fine_tune and transfer.train_head is train_head
    assert minidl.lr_find is transfer.lr_find
    with pytest.raises(AttributeError, match="fine_tune"):
        getattr(transfer, "fine_tun")  # noqa: B009


def run_example(folder, **environment):
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(EXAMPLE.parents[1]), **environment}
    return subprocess.run([sys.executable, str(EXAMPLE), "--quick"], cwd=folder, env=environment, capture_output=True,
                          text=True)


def test_the_example_says_what_it_needs(tmp_path):
    pytest.importorskip("matplotlib")
    ended = run_example(tmp_path, MINIDL_DATA="")
    assert ended.returncode == 1 and "This example needs the trained weights, CIFAR-10 and Fashion" in ended.stderr
    assert "github.com/akamaster/pytorch_resnet_cifar10" in ended.stderr


@pytest.mark.slow
def test_the_example_carries_resnet20_to_clothes(tmp_path):
    data = Path(os.environ.get("MINIDL_DATA") or "nowhere")
    if not all((data / part).is_dir() for part in ("weights", "cifar10", "fashion_mnist")):
        pytest.skip("needs the weights, CIFAR-10 and Fashion-MNIST in the folder that MINIDL_DATA names")
    ended = run_example(tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = re.findall(r"\| (Fashion-MNIST|five classes of CIFAR-10) \| 20 \| ([\d.]+)% .* \| ([\d.]+)% ", ended.stdout)
    assert len(rows) == 2 and all(float(tuned) > float(scratch) + 20 for _, scratch, tuned in rows)
    assert (tmp_path / "runs" / "resnet20_transfer" / "accuracy.png").stat().st_size > 10_000
