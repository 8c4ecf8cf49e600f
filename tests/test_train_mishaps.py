"""The trainer when things go wrong: Ctrl-C, nan, errors inside the loop, arguments that make no sense."""

import os
import signal
import threading

import numpy as np
import pytest
from trainers import Batches, network, samples, trainer_for, weights

from minidl import nn, optim
from minidl.data import TensorDataset
from minidl.train import Accuracy, Callback, Trainer, accuracy
from minidl.train.guards import InterruptAtSafePoints


@pytest.fixture(autouse=True)
def usual_ctrl_c():
    """A test run started in the background ignores Ctrl-C; here it has its usual meaning."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


class PressAt(Callback):
    def __init__(self, epoch, step, press):
        self.place, self.press, self.epoch, self.ended = (epoch, step), press, 0, False

    def on_epoch_begin(self, trainer, epoch):
        self.epoch = epoch

    def on_batch_end(self, trainer, step, loss):
        if (self.epoch, step) == self.place:
            self.weights = weights(trainer.model)
            self.press()

    def on_fit_end(self, trainer):
        self.ended = True


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("press", [press_ctrl_c, interrupt], ids=["signal", "exception"])
def test_ctrl_c_ends_the_run_and_keeps_what_was_learnt(press, capsys):
    model = network()
    callback = PressAt(3, 2, press)
    trainer = trainer_for(model)
    history = trainer.fit(samples(), samples(), epochs=9, batch_size=16, callbacks=[callback], progress=False)
    assert history.interrupted and history["epoch"] == [1, 2] and callback.ended
    np.testing.assert_array_equal(weights(model), callback.weights)
    assert "stopped by Ctrl-C in epoch 3, step 2" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not trainer.fit(samples(), progress=False).interrupted


def test_ctrl_c_never_cuts_a_step_in_two():
    model = network()

    class Pressed(optim.SGD):
        def _update(self, group, ready):
            super()._update(group, ready[:1])
            press_ctrl_c()
            super()._update(group, ready[1:])

    before = [parameter.array.copy() for parameter in model.parameters()]
    history = Trainer(model, nn.CrossEntropyLoss(), Pressed(model.parameters(), lr=0.1)).fit(samples(), progress=False)
    assert history.interrupted
    assert all((parameter.array != old).any() for parameter, old in zip(model.parameters(), before))


def test_ctrl_c_in_validation_leaves_the_unfinished_epoch_out():
    class Pressing(TensorDataset):
        def __getitems__(self, indices):
            press_ctrl_c()
            return super().__getitems__(indices)

    model = network()
    history = trainer_for(model).fit(samples(), Pressing(*samples()), epochs=3, progress=False)
    assert history.interrupted and history == {}
    assert history.stop_reason == "Ctrl-C in epoch 1, validation"
    assert model.training


def test_ctrl_c_after_the_last_step_is_not_lost():
    class PressAtTheEnd(Callback):
        def on_fit_end(self, trainer):
            press_ctrl_c()

    trainer = trainer_for(network())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(samples(), callbacks=[PressAtTheEnd()], progress=False)
    assert trainer.history["epoch"] == [1]


def test_a_second_ctrl_c_interrupts_at_once_and_other_threads_are_left_alone():
    with InterruptAtSafePoints() as guard:
        press_ctrl_c()
        assert guard.pressed
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
    entered = []
    thread = threading.Thread(target=lambda: entered.append(InterruptAtSafePoints().__enter__().active))
    thread.start()
    thread.join()
    assert entered == [False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("accumulate", [1, 3])
def test_nan_stops_before_the_weights_take_harm(accumulate):
    inputs, target = samples(48)
    inputs[40] = np.nan  # batch 6 of 8 samples: step 6, or step 2 of three batches each
    model = network()
    callback = PressAt(1, 5 if accumulate == 1 else 1, lambda: None)
    with pytest.raises(FloatingPointError) as caught:
        trainer_for(model, lr=0.25).fit((inputs, target), batch_size=8, shuffle=False, accumulate=accumulate,
                                        callbacks=[callback], progress=False)
    message = str(caught.value)
    step = 6 if accumulate == 1 else 2
    assert f"epoch 1, step {step}: the loss is nan at learning rate 0.25" in message
    assert "the inputs of this batch hold nan" in message
    np.testing.assert_array_equal(weights(model), callback.weights)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not callback.ended


def test_divergence_names_the_likely_cause():
    model = nn.Sequential(nn.Linear(5, 1))
    inputs, _ = samples(20, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        with pytest.raises(FloatingPointError, match="lower learning rate"):
            trainer_for(model, lr=1e9, loss=nn.MSELoss()).fit((inputs, inputs[:, :1]), epochs=99, progress=False)
    model = network()
    model[0].weight.array[0, 0] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="parameter '0.weight' holds nan"):
        trainer_for(model, loss=lambda output, target: (output * target).sum() * np.nan).fit(
            (inputs.astype(np.float64), np.ones((20, 2))), progress=False)
    with pytest.raises(FloatingPointError, match="the target of this batch holds nan"):
        trainer_for(network(), loss=nn.MSELoss()).fit((inputs, np.full((20, 2), np.nan)), progress=False)


def test_an_infinite_gradient_is_found_when_clipping():
    model = network()
    before = weights(model)

    class Steep(Callback):
        def on_epoch_begin(self, trainer, epoch):
            model[0].weight.array[...] = 0
            model[0].bias.array[...] = 0

    def root(output, target):  # the square root has an infinite slope at zero
        return ((output - output.detach()) ** 2).sum().sqrt()

    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="step 1: the norm of the gradients is"):
        trainer_for(model, loss=root).fit(samples(), clip_norm=1.0, progress=False)
    np.testing.assert_array_equal(weights(model), before)


def test_errors_say_where_in_the_run_they_happened():
    inputs, target = samples(20)
    target[13] = 7
    batches = Batches([(inputs[i:i + 8], target[i:i + 8]) for i in (0, 8)])
    with pytest.raises(IndexError, match=r"^epoch 1, step 2: .*label 7"):
        trainer_for(network()).fit(batches, progress=False)
    with pytest.raises(IndexError, match=r"^epoch 1, validation: evaluate, batch 2: .*label 7"):
        trainer_for(network()).fit(samples(), batches, progress=False)
    with pytest.raises(ValueError, match=r"^epoch 1, step 1: .*5.*3"):
        trainer_for(network()).fit((inputs[:, :3], target), progress=False)
    once = ((inputs[i:i + 5], (target == 1).astype(int)[i:i + 5]) for i in (0, 5))
    with pytest.raises(ValueError, match="epoch 2, step 0: the data gave no batches; an iterator"):
        trainer_for(network()).fit(once, epochs=2, progress=False)


BAD_FITS = {
    "no data": (lambda t: t.fit((np.zeros((0, 5)), np.zeros(0, int))), ValueError, "fit: .*empty"),
    "no validation": (lambda t: t.fit(samples(), (np.zeros((0, 5)), np.zeros(0, int))), ValueError,
                      "fit, validation: .*empty"),
    "no batches": (lambda t: t.fit(_Empty()), ValueError, "no batches"),
    "lengths": (lambda t: t.fit((np.zeros((4, 5)), np.zeros(3, int))), ValueError, r"\(4, 5\).*\(3,\)"),
    "batch lengths": (lambda t: t.fit(Batches([(np.zeros((4, 5)), np.zeros(3, int))])), ValueError, "4 inputs"),
    "no target": (lambda t: t.fit(np.zeros((4, 5))), TypeError, r"must be \(inputs, target\)"),
    "no data at all": (lambda t: t.fit(5), TypeError, "got a int"),
    "a dict": (lambda t: t.fit({"x": 1}), TypeError, "got a dict"),
    "epochs": (lambda t: t.fit(samples(), epochs=0), ValueError, "epochs must be a whole number from 1"),
    "accumulate": (lambda t: t.fit(samples(), accumulate=1.5), ValueError, "accumulate"),
    "clip_norm": (lambda t: t.fit(samples(), clip_norm=0), ValueError, "clip_norm must be above 0"),
}


class _Empty:
    def __len__(self):
        return 0

    def __iter__(self):
        return iter(())


@pytest.mark.parametrize("name", BAD_FITS)
def test_bad_arguments_are_refused_before_anything_is_trained(name):
    call, error, message = BAD_FITS[name]
    model = network()
    before = weights(model)
    with pytest.raises(error, match=message):
        call(trainer_for(model))
    np.testing.assert_array_equal(weights(model), before)


@pytest.mark.parametrize("loss, error, message", [
    (lambda output, target: 1.0, TypeError, "returned a float"),
    (nn.CrossEntropyLoss(reduction="none"), ValueError, r"shape \(32,\), expected a single number"),
], ids=["number", "shape"])
def test_losses_that_are_no_losses(loss, error, message):
    with pytest.raises(error, match=message):
        trainer_for(network(), loss=loss).fit(samples(), progress=False)


@pytest.mark.parametrize("metrics, error, message", [
    ([Accuracy], TypeError, r"write it with parentheses: Accuracy\(\)"),
    ([Accuracy(), accuracy], ValueError, "two figures would be called 'accuracy'"),
    ([3], TypeError, "function of"),
    (accuracy, TypeError, "list of metrics"),
])
def test_metrics_that_are_no_metrics(metrics, error, message):
    with pytest.raises(error, match=message):
        Trainer(network(), nn.CrossEntropyLoss(), metrics=metrics)


def test_a_metric_must_return_a_number():
    with pytest.raises(TypeError, match="metric 'shape' returned a tuple"):
        def shape(output, target):
            return output.shape
        trainer_for(network(), metrics=[shape]).fit(samples(), progress=False)


def test_nothing_to_train_is_said_before_the_first_step():
    model = network()
    trainer = trainer_for(model)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="all 4 parameters of the model are frozen"):
        trainer.fit(samples(), progress=False)
    with pytest.raises(ValueError, match="none of the model's trainable parameters is in the optimiser"):
        Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(network().parameters())).fit(samples(), progress=False)
    with pytest.raises(ValueError, match="no optimiser"):
        Trainer(network(), nn.CrossEntropyLoss()).fit(samples(), progress=False)


def test_trainable_parameters_the_optimiser_does_not_know_are_named():
    model = network()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model[2].parameters()))
    with pytest.warns(UserWarning, match="0.weight, 0.bias"):
        trainer.fit(samples(), progress=False)
    model[0].requires_grad_(False)
    trainer.fit(samples(), progress=False)
