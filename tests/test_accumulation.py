"""The forgotten zero_grad: warned of where a step repeats the last one, silent for every way to clear or to add up."""

import threading
import warnings

import numpy as np
import pytest

import minidl
from minidl import accumulation, nn, optim

FORGOTTEN = "gradients were not cleared since the last step"


def made(**options):
    minidl.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, optim.SGD(model.parameters(), lr=0.01, **options)


def backward(model):
    (model(minidl.rand(5, 3)) ** 2).mean().backward()


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_step_backward_step_without_clearing_is_warned_of_once(make):
    model, _ = made()
    optimizer = make(model.parameters(), lr=0.01)
    backward(model)
    optimizer.step()
    backward(model)
    with pytest.warns(UserWarning, match=f"{make.__name__}.step: .*{FORGOTTEN}.*call optimizer.zero_grad"):
        optimizer.step()
    for _ in range(3):  # an error here, as every warning is, would mean that it is said again
        backward(model)
        optimizer.step()


def test_the_warning_points_at_the_line_of_the_step():
    model, optimizer = made()
    backward(model)
    optimizer.step()
    backward(model)
    with pytest.warns(UserWarning, match=FORGOTTEN) as caught:
        optimizer.step()
    assert caught[0].filename == __file__


def test_it_is_noticed_after_rounds_that_were_cleared():
    model, optimizer = made()
    for _ in range(3):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    backward(model)
    with pytest.warns(UserWarning, match=FORGOTTEN):
        optimizer.step()


def by_parameter(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = None


def by_zeroing(model, optimizer):
    for parameter in model.parameters():
        parameter.grad.zero_()


def by_scaling(model, optimizer):
    for parameter in model.parameters():
        parameter.grad.mul_(0.5)


CLEARINGS = {
    "zero_grad": lambda model, optimizer: optimizer.zero_grad(),
    "set_to_none=False": lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    "by the module": lambda model, optimizer: model.zero_grad(),
    "p.grad = None": by_parameter,
    "p.grad.zero_()": by_zeroing,
    "p.grad.mul_(0.5), a decaying sum": by_scaling,
}


@pytest.mark.parametrize("when", ["before backward", "after step"])
@pytest.mark.parametrize("clear", CLEARINGS.values(), ids=CLEARINGS)
def test_every_way_to_clear_is_silent(clear, when):
    model, optimizer = made()
    for round_ in range(4):
        if round_ and when == "before backward":
            clear(model, optimizer)
        backward(model)
        optimizer.step()
        if when == "after step":
            clear(model, optimizer)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_adding_up_several_batches_before_one_step_is_silent(set_to_none):
    model, optimizer = made()
    for _ in range(3):
        optimizer.zero_grad(set_to_none)
        for _ in range(4):
            backward(model)
        optimizer.step()


def test_zeroing_between_the_backward_and_the_step_takes_the_suspicion_away():
    model, optimizer = made()
    backward(model)
    optimizer.step()
    backward(model)  # for a figure, say, and then thrown away
    optimizer.zero_grad(set_to_none=False)
    backward(model)
    optimizer.step()


def test_adding_to_a_gradient_of_zeros_is_silent():
    parameter = nn.Parameter(np.ones(3, np.float32))
    optimizer = optim.SGD([parameter], lr=0.1)
    for factor in (0.0, 1.0):
        (parameter * factor).sum().backward()
        optimizer.step()


def test_two_optimisers_on_one_graph_are_silent():
    body, head = nn.Linear(3, 4), nn.Linear(4, 2)
    first, second = optim.SGD(body.parameters(), lr=0.01), optim.Adam(head.parameters(), lr=0.01)
    for _ in range(3):
        first.zero_grad()
        second.zero_grad()
        (head(body(minidl.rand(5, 3))) ** 2).mean().backward()
        first.step()
        second.step()


def test_two_optimisers_on_one_graph_of_which_one_is_not_cleared_name_that_one():
    body, head = nn.Linear(3, 4), nn.Linear(4, 2)
    first, second = optim.SGD(body.parameters(), lr=0.01), optim.Adam(head.parameters(), lr=0.01)
    for round_ in range(2):
        first.zero_grad()
        (head(body(minidl.rand(5, 3))) ** 2).mean().backward()
        first.step()
        if round_:
            with pytest.warns(UserWarning, match=f"Adam.step: .*{FORGOTTEN}"):
                second.step()
        else:
            second.step()


def test_training_in_several_threads_is_silent_and_each_forgetful_one_is_told():
    told, failed = [], []

    def train(forgets):
        try:
            model, optimizer = made()
            for _ in range(20):
                if not forgets:
                    optimizer.zero_grad()
                backward(model)
                optimizer.step()
            told.append((forgets, optimizer._warned))
        except BaseException as error:
            failed.append(error)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{FORGOTTEN}")
        threads = [threading.Thread(target=train, args=(number % 2 == 1,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    assert sorted(told) == [(False, False), (False, False), (True, True), (True, True)]


def stepped_once():
    parameter = nn.Parameter(np.ones(2, np.float32))
    (parameter * parameter).sum().backward()
    optim.SGD([parameter], lr=0.1).step()
    return parameter


def test_numbers_of_gradients_that_are_gone_are_not_kept():
    alive = [stepped_once() for _ in range(200)]  # at the same time, so that each has an address of its own
    alive.clear()
    stepped_once()
    assert len(accumulation._numbers) <= 2 * len(accumulation._used) + 66
