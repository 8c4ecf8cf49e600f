"""A training that is stopped and goes on in another process is, bit for bit, one that was never stopped."""

import json
import math
import os
import random as python_random
import signal
import subprocess
import sys
from pathlib import Path

import checkpoint_runs as runs
import numpy as np
import pytest
from trainers import network, samples, trainer_for, weights

from minidl import FileFormatError, nn, optim
from minidl.data import DataLoader, TensorDataset
from minidl.errors import DataNotFoundError
from minidl.train import BestWeights, Callback, Checkpoint, CSVLog, EarlyStopping, Trainer, packing
from minidl.train.guards import InterruptAtSafePoints
from minidl.train.training_state import KIND
from minidl.transfer import LoadError, freeze, ledger, load_tensors

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, str(ROOT / "tests" / "checkpoint_runs.py")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """What comes out of each run that was broken off in one process and went on in another."""
    folder = tmp_path_factory.mktemp("runs")
    for verb in ("save", "resume"):
        ended = subprocess.run([*PROGRAM, folder, verb, *runs.RUNS], env=ENVIRONMENT, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", runs.RUNS)
def test_a_run_that_was_stopped_equals_one_that_was_not(resumed, name):
    assert resumed[name] == runs.whole(name)


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 20])
@pytest.mark.parametrize("name", ["momentum", "LSTM"])
def test_wherever_it_was_stopped(tmp_path, monkeypatch, name, stop):
    monkeypatch.setitem(runs.STOP, name, stop)
    runs.save(name, tmp_path)
    assert runs.resume(name, tmp_path) == runs.whole(name)


def go(folder, epochs=3, callbacks=(), model=None, path=None, **options):
    trainer = trainer_for(model or network())
    if path is not None:
        trainer.resume(path)
    trainer.fit(samples(), samples(20), epochs, [Checkpoint(folder, **options), *callbacks], progress=False,
                generator=np.random.default_rng(1))
    return trainer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    class Script(Callback):
        def on_epoch_end(self, trainer, epoch, figures):
            figures["validation_loss"] = [5, 2, 3, 4][epoch - 1]

    go(tmp_path / "all", 4, keep=None)
    assert names(tmp_path / "all") == [f"step-{step:08}.safetensors" for step in (2, 4, 6, 8)]
    trainer = go(tmp_path / "some", 4, [Script()], keep=2, monitor="validation_loss")
    assert names(tmp_path / "some") == ["best.safetensors", "step-00000006.safetensors", "step-00000008.safetensors"]
    best = trainer_for(network()).resume(tmp_path / "some" / "best.safetensors")
    assert best.history["epoch"] == [1, 2]
    go(tmp_path / "few", 5, every_epochs=3, every_steps=None, keep=None)
    assert names(tmp_path / "few") == ["step-00000006.safetensors", "step-00000010.safetensors"]
    go(tmp_path / "steps", 2, every_epochs=None, every_steps=3, keep=None)
    assert names(tmp_path / "steps") == ["step-00000003.safetensors", "step-00000004.safetensors"]
    trainer = go(tmp_path / "run.safetensors", 4, [Script()], monitor="validation_loss")
    assert trainer_for(network()).resume(tmp_path / "run.safetensors").history["epoch"] == [1, 2, 3, 4]
    assert trainer_for(network()).resume(tmp_path / "run.best.safetensors").history["epoch"] == [1, 2]
    state = load_tensors(tmp_path / "run.safetensors", part="model")
    for name, parameter in trainer.model.named_parameters():
        np.testing.assert_array_equal(state[name], parameter.array)


def test_a_finished_run_can_be_made_longer_and_a_log_keeps_its_lines(tmp_path):
    whole = go(tmp_path / "whole", 6)
    go(tmp_path / "run", 3, [CSVLog(tmp_path / "log.csv")])
    longer = go(tmp_path / "run", 6, [CSVLog(tmp_path / "log.csv")], path=tmp_path / "run")
    np.testing.assert_array_equal(weights(longer.model), weights(whole.model))
    assert longer.history["loss"] == whole.history["loss"] and longer.history["epoch"] == [1, 2, 3, 4, 5, 6]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4", "5", "6"]
    again = go(tmp_path / "run", 6, path=tmp_path / "run")
    np.testing.assert_array_equal(weights(again.model), weights(whole.model))


def test_what_is_frozen_and_the_ledger_come_back(tmp_path):
    model = freeze(network(), "0")
    go(tmp_path, model=model)
    fresh = network()
    trainer = trainer_for(fresh).resume(tmp_path)
    assert fresh[0].frozen and not fresh[0].weight.requires_grad and fresh[2].weight.requires_grad
    assert [event.kind for event in ledger(fresh).events] == ["freeze", "training", "resume"]
    assert ledger(fresh).verify()
    trainer.fit(samples(), samples(20), 4, [], progress=False, generator=np.random.default_rng(1))
    assert ledger(fresh).verify().parameters == 36
    fresh[0].weight.array[0, 0] += 1
    assert not ledger(fresh).verify()


class Press(Callback):
    """Sends signals to this process after a step."""

    def __init__(self, epoch, step, *numbers):
        self.place_in_run, self.numbers, self.epoch = (epoch, step), numbers, 0

    def on_epoch_begin(self, trainer, epoch):
        self.epoch = epoch

    def on_batch_end(self, trainer, step, loss):
        if (self.epoch, step) == self.place_in_run:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.fixture
def usual_signals():
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_after_the_step(tmp_path, usual_signals, capsys, number):
    whole = go(tmp_path / "whole", 4)
    trainer = go(tmp_path / "run", 4, [Press(2, 1, number)])
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert trainer.history.interrupted and trainer.history.stop_reason == f"{name} in epoch 2, step 1"
    assert f"stopped by {name}" in capsys.readouterr().out
    assert names(tmp_path / "run") == ["step-00000002.safetensors", "step-00000003.safetensors"]
    on = go(tmp_path / "run", 4, path=tmp_path / "run")
    np.testing.assert_array_equal(weights(on.model), weights(whole.model))
    assert on.history["loss"] == whole.history["loss"] and not on.history.interrupted
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_in_validation_is_no_difference(tmp_path, usual_signals):
    class Pressing(TensorDataset):
        random, left = True, 2

        def __getitems__(self, indices):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitems__(indices)

    def run(data, path=None):
        trainer = trainer_for(network())
        if path is not None:
            trainer.resume(path)
        loader = DataLoader(TensorDataset(*samples()), 16, shuffle=True)
        np.random.seed(0)
        runs.random.seed(5)
        trainer.fit(loader, DataLoader(data, 11), 3, [Checkpoint(tmp_path / "run")], progress=False)
        return trainer

    stopped = run(Pressing(*samples()))
    assert stopped.history.stop_reason == "SIGTERM in epoch 1, validation" and not stopped.history
    quiet = Pressing(*samples())
    quiet.left = 0
    on = run(quiet, tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    whole = run(quiet)
    np.testing.assert_array_equal(weights(on.model), weights(whole.model))
    assert on.history["validation_loss"] == whole.history["validation_loss"]


def test_a_second_signal_stops_at_once_and_saves_nothing(tmp_path, usual_signals):
    whole = go(tmp_path / "whole", 4)
    trainer = go(tmp_path / "run", 4, [Press(2, 1, signal.SIGTERM, signal.SIGINT)])
    assert trainer.history.interrupted and names(tmp_path / "run") == ["step-00000002.safetensors"]
    saved = packing.read(tmp_path / "run" / "step-00000002.safetensors", KIND)
    assert saved["within"] is None, "a step may have been cut in two"
    on = go(tmp_path / "run", 4, path=tmp_path / "run")
    assert on.history["loss"] == whole.history["loss"]
    with pytest.raises(KeyboardInterrupt), InterruptAtSafePoints() as guard:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            guard.check()  # stopping has begun: saving, for instance
        os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_still_ends_a_training_without_checkpoints():
    code = ("import os, signal\nfrom trainers import *\nfrom minidl.train import Callback\n"
            "class Press(Callback):\n    def on_batch_end(self, *_): os.kill(os.getpid(), signal.SIGTERM)\n"
            "trainer_for(network()).fit(samples(), callbacks=[Press()], progress=False)")
    ended = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT)
    assert ended.returncode == -signal.SIGTERM


def snapshot(trainer):
    model = trainer.model
    return ([tensor.array.copy() for tensor in (*model.parameters(), *model.buffers())],
            [parameter.requires_grad for parameter in model.parameters()],
            json.dumps(trainer.optimizer.state_dict(), default=str), len(ledger(model).events))


def assert_untouched(trainer, before):
    after = snapshot(trainer)
    for one, other in zip(before[0], after[0]):
        np.testing.assert_array_equal(one, other)
    assert before[1:] == after[1:]


OTHERS = {
    "layers": (lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2), nn.BatchNorm1d(2)),
               ["module '3' is in the model, not in the checkpoint", "tensor '3.running_mean' is in the model"]),
    "width": (lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)),
              [r"tensor '0.weight' is float64 (6, 5), the model's is float64 (7, 5)"]),
    "dtype": (lambda: network(np.float32), ["tensor '0.weight' is float64 (6, 5), the model's is float32 (6, 5)"]),
    "optimiser": (network, ["the optimiser was SGD, it is Adam"]),
    "options": (network, ["2 parameter groups", "1 parameter groups were saved"]),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_checkpoint_of_something_else_is_refused_by_name(tmp_path, case):
    go(tmp_path, 1)
    make, messages = OTHERS[case]
    trainer = trainer_for(make().to(np.float64) if case != "dtype" else make())
    if case == "optimiser":
        trainer.optimizer = optim.Adam(trainer.model.named_parameters())
    if case == "options":
        parts = list(trainer.model.named_parameters())
        trainer.optimizer = optim.SGD([{"params": parts[:2]}, {"params": parts[2:]}], lr=0.1, momentum=0.9)
        messages = messages[1:]
    before = snapshot(trainer)
    with pytest.raises(LoadError) as caught:
        trainer.resume(tmp_path)
    for message in messages:
        assert message in str(caught.value)
    assert_untouched(trainer, before)


@pytest.mark.parametrize("order", [1, -1])
def test_an_optimiser_without_names_gets_its_moments_by_name(tmp_path, order):
    model, other = network(), network()
    trainer = trainer_for(model)
    trainer.fit(samples(), callbacks=[Checkpoint(tmp_path)], progress=False)
    plain = optim.SGD(list(other.parameters())[::order], lr=0.5, momentum=0.9)
    Trainer(other, nn.CrossEntropyLoss(), plain).resume(tmp_path)
    for one, two in zip(model.parameters(), other.parameters()):
        np.testing.assert_array_equal(trainer.optimizer.state[one]["momentum_buffer"],
                                      plain.state[two]["momentum_buffer"])
    assert plain.param_groups[0]["lr"] == 0.1


def test_other_arguments_and_missing_callbacks_are_named_before_anything_runs(tmp_path):
    trainer = trainer_for(network())
    drawing = np.random.default_rng(1)
    trainer.fit(samples(), samples(), 2, [Checkpoint(tmp_path), EarlyStopping("loss", 9)], batch_size=16, clip_norm=1.0,
                generator=drawing, progress=False)
    other = trainer_for(network()).resume(tmp_path)
    before = weights(other.model)
    with pytest.raises(LoadError) as caught:
        other.fit(samples(40), None, 3, batch_size=8, progress=False)
    for text in ("training batch_size was 16, it is 8", "training items was 44, it is 40", "clip_norm was 1.0",
                 "validation data was 'TensorDataset', it is None", "a callback EarlyStopping took part",
                 "random numbers came from 'train.generator', where no generator is now", "load_tensors(path"):
        assert text in str(caught.value)
    np.testing.assert_array_equal(weights(other.model), before)
    other.fit(samples(), samples(), 3, [EarlyStopping("loss", 9), BestWeights("loss")], batch_size=16, clip_norm=1.0,
              generator=np.random.default_rng(), progress=False)  # put right, it goes on
    assert other.history["epoch"] == [1, 2, 3]
    other.fit(samples(), progress=False)
    assert other.history["epoch"] == [1], "the fit after that is a new one"


def test_a_folder_with_later_checkpoints_is_not_mixed_up(tmp_path):
    go(tmp_path, 3)
    with pytest.raises(ValueError, match=r"up to step 6, and this run is at step 0: go on .*resume"):
        go(tmp_path, 3)
    with pytest.raises(ValueError, match="and this run is at step 4"):
        go(tmp_path, 3, path=tmp_path / "step-00000004.safetensors")
    with pytest.raises(DataNotFoundError, match="no checkpoint"):
        trainer_for(network()).resume(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match="no checkpoint"):
        trainer_for(network()).resume(tmp_path / "empty")


def test_what_cannot_work_is_said_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    before = weights(network())
    model = network()
    with pytest.raises(OSError, match="Checkpoint cannot write in its folder"):
        go(tmp_path / "file" / "folder", model=model)
    with pytest.raises(ValueError, match="no figure 'accuracy'"):
        go(tmp_path, model=model, monitor="accuracy")
    for name in ("every_epochs", "every_steps", "keep"):
        for value in (0, -1, True, 1.5, "2"):
            with pytest.raises(ValueError, match=f"Checkpoint: {name} must be a whole number"):
                Checkpoint(tmp_path, **{name: value})
    np.testing.assert_array_equal(weights(model), before)


def edited(path, change):
    """The checkpoint, changed by somebody who knows the format, with a SHA-256 that fits."""
    content = packing.read(path, KIND)
    change(content)
    packing.write(path, KIND, content)


def put(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value
    return change


HOSTILE = {
    "no model": lambda content: content.pop("model"),
    "a number for a tensor": put("model", "0.weight", value=3),
    "marks": put("modules", "0", value=["yes", 1]),
    "negative steps": put("steps", value=-1),
    "history": put("history", value={"loss": [1.0], "epoch": []}),
    "optimiser": put("optimizer", value=[]),
    "option": put("optimizer", "groups", 0, "lr", value="fast"),
    "infinite option": put("optimizer", "groups", 0, "lr", value=math.inf),
    "unknown option": put("optimizer", "groups", 0, "__class__", value=1),
    "groups": put("optimizer", "groups", value=[3]),
    "moments": put("optimizer", "state", "0.weight", value={"momentum_buffer": "text"}),
    "other moments": put("optimizer", "state", "0.weight", value={"__class__": np.zeros(3)}),
    "moments of another shape": put("optimizer", "state", "0.weight", value={"momentum_buffer": np.zeros(3)}),
    "ledger": put("ledger", value="{}"),
    "callbacks": put("callbacks", value=[1]),
    "within": put("within", value={"step": 1}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_checkpoint_fails_and_does_nothing_else(tmp_path, case):
    go(tmp_path / "run.safetensors", 1)
    edited(tmp_path / "run.safetensors", HOSTILE[case])
    trainer = trainer_for(network())
    before = snapshot(trainer)
    with pytest.raises((FileFormatError, LoadError)):
        trainer.resume(tmp_path / "run.safetensors")
    assert_untouched(trainer, before)


@pytest.mark.parametrize("value", [{"bit_generator": "PCG64"}, {"bit_generator": "MT19937", "state": {}}, 3, None, "x",
                                   {"bit_generator": "PCG64", "state": {"state": -1, "inc": 2**200}, "has_uint32": 0,
                                    "uinteger": 0}])
@pytest.mark.parametrize("stream", ["minidl", "numpy", "python", "train.generator"])
def test_a_hostile_state_of_a_generator_changes_none(tmp_path, stream, value):
    go(tmp_path / "run.safetensors", 1)
    edited(tmp_path / "run.safetensors", put("random", stream, value=value))
    before = runs.random.generator().bit_generator.state, python_random.getstate(), np.random.get_state()[1].sum()
    trainer = trainer_for(network()).resume(tmp_path / "run.safetensors")
    before = (runs.random.generator().bit_generator.state, *before[1:])  # network() draws
    with pytest.raises(FileFormatError, match=f"random: '{stream}' is no state"):
        trainer.fit(samples(), samples(20), 2, generator=np.random.default_rng(1), progress=False)
    assert before == (runs.random.generator().bit_generator.state, python_random.getstate(),
                      np.random.get_state()[1].sum())


def test_damage_anywhere_in_the_file_is_found(tmp_path):
    go(tmp_path / "run.safetensors", 1)
    data = (tmp_path / "run.safetensors").read_bytes()
    draw = np.random.default_rng(0)
    broken = tmp_path / "broken.safetensors"
    trainer = trainer_for(network())
    before = snapshot(trainer)
    for number in range(120):
        changed = bytearray(data)
        place = int(draw.integers(len(data)))
        if number % 3:
            changed[place] ^= 1 << int(draw.integers(8))
        else:
            del changed[place:]
        broken.write_bytes(changed)
        with pytest.raises(FileFormatError):
            trainer.resume(broken)
    broken.write_bytes(b"")
    with pytest.raises(FileFormatError):
        trainer.resume(broken)
    nn_file = tmp_path / "model.safetensors"
    runs.minidl.save(network(), nn_file)
    with pytest.raises(FileFormatError, match="this is no minidl checkpoint"):
        trainer.resume(nn_file)
    assert_untouched(trainer, before)


SLEEPER = """
import sys, time
from trainers import *
from minidl.train import Callback, Checkpoint
class Slow(Callback):
    def on_batch_end(self, trainer, step, loss):
        print("step", flush=True)
        time.sleep(0.05)
trainer = trainer_for(network())
trainer.fit(samples(), epochs=500, callbacks=[Slow(), Checkpoint(sys.argv[1])], progress=False)
print(trainer.history.stop_reason)
"""


def test_a_system_that_ends_the_process_gets_a_checkpoint(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, tmp_path], env=ENVIRONMENT, stdout=subprocess.PIPE,
                               text=True)
    for _ in range(3):
        assert process.stdout.readline() == "step\n"
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "SIGTERM in epoch" in output
    assert trainer_for(network()).resume(tmp_path)._saved.steps >= 3
