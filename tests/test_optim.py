"""Optimisers against PyTorch's trajectories, the promise that frozen parameters stay, saving and loading, errors."""

import copy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_cases import CLIPPINGS, OPTIMISERS, SHAPES, STEPS, clipping_gradients, gradients, is_frozen, start

from minidl import nn, optim
from minidl.errors import ShapeError
from minidl.tensor import Tensor, no_grad

GOLDEN = np.load(Path(__file__).with_name("golden") / "optimisers.npz")


def parameters_of(dtype=np.float64):
    return [nn.Parameter(x) for x in start(dtype)]


def joined(parameters):
    return np.concatenate([parameter.array.ravel() for parameter in parameters])


def give_gradients(parameters, step, dtype=np.float64):
    for parameter, gradient in zip(parameters, gradients(step, dtype)):
        parameter.grad = Tensor(gradient)


def make(name, parameters, **changes):
    optimiser, options = OPTIMISERS[name]
    return getattr(optim, optimiser)(parameters, **{**options, **changes})


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_twenty_steps_equal_pytorch(name, dtype):
    """Two groups with different rates; two parameters are frozen for steps 5 to 10, one with stale gradients."""
    parameters = parameters_of(dtype)
    lr = OPTIMISERS[name][1]["lr"]
    optimizer = make(name, [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 3 * lr}])
    states = []
    for step in range(STEPS):
        give_gradients(parameters, step, dtype)
        for index, parameter in enumerate(parameters):
            parameter.requires_grad = not is_frozen(index, step)
        if is_frozen(1, step):
            parameters[1].grad = None
        optimizer.step()
        states.append(joined(parameters))
    assert states[-1].dtype == dtype
    if dtype == np.float64:
        np.testing.assert_allclose(states, GOLDEN[f"{name}/float64"], rtol=1e-10, atol=1e-10)
    else:
        np.testing.assert_allclose(states[-1], GOLDEN[f"{name}/float32"], rtol=1e-5, atol=1e-6)
    for state in optimizer.state.values():
        assert all(value.dtype == dtype for key, value in state.items() if key != "step")


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(OPTIMISERS)), frozen=st.sets(st.integers(0, len(SHAPES) - 1), min_size=1),
       begin=st.integers(0, 6), length=st.integers(1, 6), clip=st.booleans())
def test_frozen_bytes_and_state_never_change(name, frozen, begin, length, clip):
    """Stale gradients, decay, momentum and clipping leave a frozen parameter alone, wherever the freeze begins."""
    parameters = parameters_of(np.float32)
    optimizer = make(name, parameters)
    for step in range(begin):
        give_gradients(parameters, step, np.float32)
        optimizer.step()
    for index in frozen:
        parameters[index].requires_grad = False
    before = [parameter.array.tobytes() for parameter in parameters]
    state = copy.deepcopy([optimizer.state.get(parameter) for parameter in parameters])
    for step in range(begin, begin + length):
        give_gradients(parameters, step, np.float32)
        if clip:
            nn.utils.clip_grad_norm_(parameters, 0.1)
        optimizer.step()
    for index, parameter in enumerate(parameters):
        assert (parameter.array.tobytes() == before[index]) == (index in frozen)
        if index in frozen:
            np.testing.assert_equal(optimizer.state.get(parameter), state[index])


def test_unfreezing_needs_no_new_group():
    parameters = parameters_of()
    parameters[0].requires_grad = False
    optimizer = optim.Adam(parameters, lr=0.1, eps=0)
    give_gradients(parameters, 0)
    optimizer.step()
    assert parameters[0] not in optimizer.state
    parameters[0].requires_grad = True
    before = parameters[0].array.copy()
    optimizer.step()
    assert optimizer.state[parameters[0]]["step"] == 1
    # Without eps, the first step of Adam moves every element by exactly the learning rate.
    np.testing.assert_allclose(np.abs(parameters[0].array - before), 0.1, rtol=1e-9)


def test_centered_rmsprop_survives_a_variance_rounded_below_zero():
    parameter = nn.Parameter(np.zeros(1000, np.float32))
    optimizer = optim.RMSprop([parameter], centered=True, alpha=0.5)
    gradient = np.random.default_rng(0).random(1000).astype(np.float32)
    for _ in range(60):
        parameter.grad = Tensor(gradient)
        optimizer.step()
    assert np.isfinite(parameter.array).all()


@pytest.mark.parametrize("lr", [np.float64(0.1), np.float32(0.1), Tensor(0.1)], ids=["float64", "float32", "tensor"])
@pytest.mark.parametrize("name", ["sgd_all", "adam_all", "adamw_all", "rmsprop_all"])
def test_parameters_keep_their_array_and_dtype(name, lr):
    parameters = parameters_of(np.float32)
    arrays = [parameter.array for parameter in parameters]
    optimizer = make(name, parameters, lr=lr)
    before = joined(parameters)
    give_gradients(parameters, 0, np.float32)
    optimizer.step()
    assert all(parameter.array is array for parameter, array in zip(parameters, arrays))
    assert all(value.dtype == np.float32 for state in optimizer.state.values() for key, value in state.items()
               if key != "step")
    assert (joined(parameters) != before).all()


def test_a_step_marks_a_new_head_as_trained():
    head, frozen, resting = (nn.Parameter(np.ones(2)) for _ in range(3))
    for parameter in (head, frozen, resting):
        parameter.untrained = True
        parameter.grad = Tensor(np.ones(2))
    frozen.requires_grad = False
    optim.SGD([{"params": [head, frozen]}, {"params": [resting], "lr": 0.0}], lr=0.1).step()
    assert (head.untrained, frozen.untrained, resting.untrained) == (False, True, True)


def test_closure_is_called_with_recording_on():
    weight = nn.Parameter(np.array([3.0]))
    optimizer = optim.SGD([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight * weight
        loss.backward()
        return loss

    with no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    np.testing.assert_allclose(weight.array, [3.0 - 0.1 * 6.0])


def test_zero_grad():
    parameters = parameters_of()
    optimizer = optim.SGD(parameters)
    give_gradients(parameters, 0)
    optimizer.zero_grad(set_to_none=False)
    assert all((parameter.grad.array == 0).all() for parameter in parameters)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


def test_plain_tensors_can_be_trained():
    weight = Tensor([1.0, 2.0], requires_grad=True)
    weight.grad = Tensor([1.0, 1.0])
    optim.SGD([weight], lr=0.5).step()
    np.testing.assert_allclose(weight.array, [0.5, 1.5])


@pytest.mark.parametrize("named", [True, False], ids=["named", "numbered"])
@pytest.mark.parametrize("name", ["sgd_all", "adam_all", "rmsprop_all"])
def test_saved_state_continues_the_run(name, named):
    """Stop after 7 steps, load into a fresh optimiser of a copied model, and go on: as if never stopped."""
    first = parameters_of()
    first[2].requires_grad = False  # so that one parameter has no state
    second = copy.deepcopy(first)

    def listed(parameters):
        return [(f"layer.{index}", parameter) for index, parameter in enumerate(parameters)] if named else parameters

    one, two = make(name, listed(first)), make(name, listed(second), lr=123.0)
    for step in range(7):
        give_gradients(first, step)
        one.step()
    saved = one.state_dict()
    assert list(saved["state"]) == (["layer.0", "layer.1", "layer.3"] if named else [0, 1, 3])
    for old, new in zip(first, second):
        new.array[...] = old.array
    two.load_state_dict(saved)
    first[2].requires_grad = second[2].requires_grad = True
    for step in range(7, 12):
        for parameters, optimizer in ((first, one), (second, two)):
            give_gradients(parameters, step)
            optimizer.step()
    np.testing.assert_array_equal(joined(first), joined(second))


def test_saved_arrays_are_copies():
    parameters = parameters_of()
    optimizer = optim.Adam(parameters)
    give_gradients(parameters, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    optimizer.step()
    np.testing.assert_equal(saved, kept)
    optimizer.load_state_dict(saved)
    optimizer.step()
    np.testing.assert_equal(saved, kept)


def damage(saved, what):
    state, group = saved["state"], saved["param_groups"][0]
    if what == "parameter":
        group["params"][0] = "conv.wieght"
    elif what == "state of nobody":
        state["head.weight"] = state["conv.weight"]
    elif what == "option":
        del group["betas"]
    elif what == "option value":
        group["lr"] = -1.0
    elif what == "groups":
        saved["param_groups"].append(group)
    elif what == "missing array":
        del state["conv.bias"]["exp_avg"]
    elif what == "unknown array":
        state["conv.bias"]["velocity"] = state["conv.bias"]["exp_avg"]
    elif what == "shape":
        state["conv.bias"]["exp_avg_sq"] = np.zeros(5)
    elif what == "dtype":
        state["conv.bias"]["exp_avg_sq"] = np.zeros(4, np.float32)
    elif what == "parts":
        del saved["state"]


@pytest.mark.parametrize("what, message", [
    ("parameter", r"no parameter 'conv.weight' was saved; did you mean 'conv.wieght'\?"),
    ("state of nobody", "'head.weight'"),
    ("option", "in group 0, no option 'betas'"),
    ("option value", "lr must be"),
    ("groups", "2 parameter groups were saved, this optimiser has 1"),
    ("missing array", "for 'conv.bias', no state 'exp_avg'"),
    ("unknown array", "'velocity' is unknown"),
    ("shape", r"'exp_avg_sq' of 'conv.bias' is float64 \(5,\), the parameter is float64 \(4,\)"),
    ("dtype", r"float32 \(4,\)"),
    ("parts", "expected a dict with 'state' and 'param_groups'"),
])
def test_a_state_that_does_not_fit_changes_nothing(what, message):
    parameters = parameters_of()
    names = ["conv.weight", "conv.bias", "scale", "fc.weight"]
    optimizer = optim.Adam(zip(names, parameters))
    give_gradients(parameters, 0)
    optimizer.step()
    before = optimizer.state_dict()
    saved = copy.deepcopy(before)
    saved["param_groups"][0]["eps"] = 0.5
    damage(saved, what)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_state_of_another_optimiser_is_refused():
    parameters = parameters_of()
    with pytest.raises(ValueError, match="no option 'betas' was saved.*'momentum' is unknown here"):
        optim.Adam(parameters).load_state_dict(optim.SGD(parameters).state_dict())


@pytest.mark.parametrize("build, error, message", [
    (lambda p: optim.SGD([]), ValueError, "empty list"),
    (lambda p: optim.SGD(x for x in ()), ValueError, "generator"),
    (lambda p: optim.SGD([{"params": iter(())}]), ValueError, "generator"),
    (lambda p: optim.SGD([{"params": []}, {"params": []}]), ValueError, "none of the 2 groups"),
    (lambda p: optim.SGD([p, p]), ValueError, "twice"),
    (lambda p: optim.SGD([{"params": [p]}, {"params": p}]), ValueError, "twice"),
    (lambda p: optim.SGD([("a", p), ("a", nn.Parameter(np.ones(1)))]), ValueError, "two parameters are called 'a'"),
    (lambda p: optim.SGD([("a", p), nn.Parameter(np.ones(1))]), ValueError, "all parameters have names or none"),
    (lambda p: optim.SGD([{"params": [("a", p)]}, {"params": [nn.Parameter(np.ones(1))]}]), ValueError, "or none"),
    (lambda p: optim.SGD([p, np.ones(3)]), TypeError, "parameter number 1 is a ndarray"),
    (lambda p: optim.SGD([("a", np.ones(3))]), TypeError, "parameter 'a' is a ndarray"),
    (lambda p: optim.SGD([p * 2]), ValueError, "result of <mul>"),
    (lambda p: optim.SGD(p), TypeError, "not a single Parameter"),
    (lambda p: optim.SGD({"params": [p]}), TypeError, "not a single dict"),
    (lambda p: optim.SGD({p}), TypeError, "set"),
    (lambda p: optim.SGD(nn.Linear(2, 2)), TypeError, "model.named_parameters"),
    (lambda p: optim.SGD([{"parameters": [p]}]), TypeError, "dict with 'params'"),
    (lambda p: optim.SGD([{"params": [p], "weight_deacy": 0.1}]), ValueError, "did you mean 'weight_decay'"),
    (lambda p: optim.SGD([{"params": [p], "lr": -0.1}]), ValueError, "lr must be"),
    (lambda p: optim.SGD([p], lr=-1), ValueError, "lr must be a finite number that is not negative, got -1"),
    (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr must be"),
    (lambda p: optim.SGD([p], lr="0.1"), ValueError, "lr must be"),
    (lambda p: optim.SGD([p], weight_decay=-1), ValueError, "weight_decay"),
    (lambda p: optim.SGD([p], momentum=-0.5), ValueError, "momentum"),
    (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov"),
    (lambda p: optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov"),
    (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "betas"),
    (lambda p: optim.Adam([p], betas=0.9), ValueError, "betas"),
    (lambda p: optim.Adam([p], eps=-1e-8), ValueError, "eps"),
    (lambda p: optim.RMSprop([p], alpha=1.5), ValueError, "alpha"),
])
def test_bad_arguments_are_explained(build, error, message):
    with pytest.raises(error, match=message):
        build(nn.Parameter(np.ones(2)))


def test_a_refused_group_leaves_the_optimiser_as_it_was():
    parameters = parameters_of()
    optimizer = optim.SGD(parameters[:2], lr=0.0)
    with pytest.raises(ValueError, match="twice"):
        optimizer.add_param_group({"params": parameters[1:]})
    with pytest.raises(ValueError, match="momentum"):
        optimizer.add_param_group({"params": parameters[2:], "momentum": -1})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": parameters[2:], "lr": 0.5, "depth": 3})
    assert optimizer.param_groups[1]["lr"] == 0.5
    assert optimizer.param_groups[1]["momentum"] == 0
    assert "depth: 3" in repr(optimizer)


def test_a_gradient_of_another_shape_stops_the_step_before_anything_moves():
    parameters = parameters_of()
    optimizer = optim.SGD(parameters)
    give_gradients(parameters, 0)
    parameters[1].grad = Tensor(np.ones((4, 1)))
    before = joined(parameters)
    with pytest.raises(ShapeError, match=r"\(4,\).*\(4, 1\)"):
        optimizer.step()
    np.testing.assert_array_equal(joined(parameters), before)


@pytest.mark.parametrize("name, arguments", CLIPPINGS, ids=str)
def test_clipping_equals_pytorch(name, arguments):
    parameters = parameters_of()
    for parameter, gradient in zip(parameters, clipping_gradients()):
        parameter.grad = Tensor(gradient)
    norm = getattr(nn.utils, name)(iter(parameters), *arguments)
    key = f"{name}{arguments}"
    clipped = np.concatenate([parameter.grad.array.ravel() for parameter in parameters])
    np.testing.assert_allclose(clipped, GOLDEN[f"{key}/gradients"], rtol=1e-12)
    assert (norm is None) == (f"{key}/norm" not in GOLDEN)
    if norm is not None:
        np.testing.assert_allclose(norm.item(), GOLDEN[f"{key}/norm"], rtol=1e-12)


def test_frozen_parameters_do_not_enter_the_norm():
    trained, frozen, unused = (nn.Parameter(np.zeros(2, np.float32)) for _ in range(3))
    trained.grad, frozen.grad = Tensor([3.0, 4.0]), Tensor([100.0, 100.0])
    frozen.requires_grad = False
    assert nn.utils.clip_grad_norm_([trained, frozen, unused], 1.0).item() == 5.0
    np.testing.assert_allclose(trained.grad.array, [0.6, 0.8], rtol=1e-6)
    nn.utils.clip_grad_value_([trained, frozen], 0.5)
    np.testing.assert_array_equal(frozen.grad.array, [100.0, 100.0])


def test_norm_of_large_float32_gradients_does_not_overflow():
    parameter = nn.Parameter(np.zeros(2, np.float32))
    parameter.grad = Tensor(np.array([3e30, 4e30], np.float32))
    assert nn.utils.clip_grad_norm_(parameter, 1.0).item() == pytest.approx(5e30, rel=1e-6)
    np.testing.assert_allclose(parameter.grad.array, [0.6, 0.8], rtol=1e-6)


def test_clipping_what_is_not_finite():
    parameters = [nn.Parameter(np.zeros(2)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = Tensor(np.array([np.nan, 1.0])), Tensor(np.array([2.0, 3.0]))
    for norm_type in (2.0, float("inf")):
        with pytest.raises(RuntimeError, match="the norm of the gradients is nan"):
            nn.utils.clip_grad_norm_(parameters, 1.0, norm_type, error_if_nonfinite=True)
        np.testing.assert_array_equal(parameters[1].grad.array, [2.0, 3.0])
    assert np.isnan(nn.utils.clip_grad_norm_(parameters, 1.0).item())
    assert np.isnan(parameters[1].grad.array).all()


def test_clipping_explains_bad_arguments():
    parameter = nn.Parameter(np.zeros(2))
    with pytest.warns(UserWarning, match="no parameters were given"):
        nn.utils.clip_grad_norm_(iter(()), 1.0)
    for call, error in ((lambda: nn.utils.clip_grad_norm_(parameter, -1.0), ValueError),
                        (lambda: nn.utils.clip_grad_norm_(parameter, 1.0, 0), ValueError),
                        (lambda: nn.utils.clip_grad_norm_([1.0], 1.0), TypeError),
                        (lambda: nn.utils.clip_grad_norm_(nn.Linear(1, 1), 1.0), TypeError),
                        (lambda: nn.utils.clip_grad_value_(parameter, float("nan")), ValueError)):
        with pytest.raises(error, match="clip_grad_"):
            call()
