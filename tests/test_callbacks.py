"""Callbacks and history: early stopping, best weights, logs, schedules inside `fit`, and what the history can do."""

import csv
import json
import sys

import numpy as np
import pytest
from trainers import network, samples, trainer_for, weights

from minidl import optim
from minidl.optim import lr_scheduler
from minidl.train import (
    BestWeights,
    Callback,
    ConfusionMatrix,
    CSVLog,
    EarlyStopping,
    History,
    JSONLinesLog,
    LearningRate,
)


class Scripted(Callback):
    """Sets a figure to the values of a script, before the callbacks after it look, and notes the weights."""

    def __init__(self, name, values):
        self.name, self.values, self.weights = name, values, []

    def on_epoch_end(self, trainer, epoch, figures):
        figures[self.name] = self.values[epoch - 1]
        self.weights.append(weights(trainer.model))


def run(callbacks, epochs=8, validation=True, model=None):
    trainer = trainer_for(model or network(), metrics=[])
    trainer.fit(samples(), samples(16) if validation else None, epochs=epochs, callbacks=callbacks, progress=False)
    return trainer


@pytest.mark.parametrize("values, options, epochs, best", [
    ([5, 4, 3, 3, 3, 9], dict(patience=2), 5, 3),
    ([5, 4, 4.5, 3.9, 4, 4, 4, 4], dict(patience=3), 7, 4),
    ([5, 4, 3.9, 3.8, 3.7, 3.6], dict(patience=2, min_delta=0.5), 4, 2),
    ([5, 4, 3, 2, 1, 0], dict(patience=1), 6, 6),
    ([5, float("nan"), float("nan"), 1], dict(patience=2), 3, 1),
    ([float("nan"), 5, 6, 4], dict(patience=2), 4, 4),
])
def test_early_stopping(values, options, epochs, best):
    script = Scripted("validation_loss", values)
    stopping = EarlyStopping("validation_loss", restore_best=True, **options)
    trainer = run([script, stopping], epochs=len(values))
    assert trainer.history["epoch"][-1] == epochs
    assert stopping.best_epoch == best
    assert (trainer.history.stop_reason is not None) == (epochs < len(values))
    np.testing.assert_array_equal(weights(trainer.model), script.weights[best - 1])


def test_early_stopping_keeps_the_last_weights_unless_told_otherwise(capsys):
    script = Scripted("loss", [1, 2, 3, 4])
    trainer = run([script, EarlyStopping("loss", patience=2)])
    np.testing.assert_array_equal(weights(trainer.model), script.weights[-1])
    assert "loss has not improved on 1 (epoch 1) for 2 epochs" in trainer.history.stop_reason


def test_a_trainer_can_be_run_again_after_early_stopping():
    stopping = EarlyStopping("loss", patience=1)
    trainer = run([Scripted("loss", [1, 2]), stopping], epochs=2)
    trainer.fit(samples(), epochs=2, callbacks=[Scripted("loss", [9, 8]), stopping], progress=False)
    assert trainer.history["epoch"] == [1, 2] and trainer.history.stop_reason is None
    assert stopping.best == 8


@pytest.mark.parametrize("name, mode, values", [
    ("loss", None, [3, 1, 2]), ("loss", "max", [1, 3, 2]), ("validation_loss", None, [3, 1, 1]),
])
def test_best_weights_come_back_at_the_end(name, mode, values):
    script, best = Scripted(name, values), BestWeights(name, mode)
    trainer = run([script, best], epochs=3)
    np.testing.assert_array_equal(weights(trainer.model), script.weights[1])
    assert (best.best, best.best_epoch) == (values[1], 2)


def test_after_ctrl_c_the_weights_stay_as_learnt_and_the_best_can_be_fetched():
    class Press(Callback):
        def on_epoch_begin(self, trainer, epoch):
            if epoch == 3:
                raise KeyboardInterrupt

    script, best = Scripted("loss", [1, 2, 3]), BestWeights("loss")
    trainer = run([script, best, Press()])
    np.testing.assert_array_equal(weights(trainer.model), script.weights[1])
    best.restore(trainer.model)
    np.testing.assert_array_equal(weights(trainer.model), script.weights[0])


@pytest.mark.parametrize("build, message", [
    (lambda: run([EarlyStopping("valid_loss")]), "did you mean 'validation_loss'"),
    (lambda: run([BestWeights("validation_loss")], validation=False), "no validation data"),
    (lambda: BestWeights("fitness"), "lower or a higher 'fitness' better"),
    (lambda: BestWeights("loss", mode="lowest"), "mode must be"),
    (lambda: EarlyStopping("loss", patience=0), "patience"),
    (lambda: EarlyStopping("loss", min_delta=-1), "min_delta"),
])
def test_what_cannot_be_monitored_is_refused_before_training(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_logs_hold_a_line_an_epoch(tmp_path):
    model = network()
    trainer = trainer_for(model, metrics=[ConfusionMatrix(2)])
    table, lines = tmp_path / "new" / "log.csv", tmp_path / "log.jsonl"
    trainer.fit(samples(), samples(), epochs=3, callbacks=[CSVLog(table), JSONLinesLog(str(lines))], progress=False)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    objects = [json.loads(line) for line in lines.read_text().splitlines()]
    assert list(rows[0]) == list(objects[0]) == trainer.columns
    for index in range(3):
        for name in ("epoch", "loss", "validation_loss", "lr", "seconds"):
            assert float(rows[index][name]) == objects[index][name] == trainer.history[name][index]
        matrix = trainer.history["confusion_matrix"][index].tolist()
        assert json.loads(rows[index]["confusion_matrix"]) == objects[index]["confusion_matrix"] == matrix
    trainer.history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == table.read_text()


def test_logs_are_begun_anew_or_continued(tmp_path):
    for path, log, header in ((tmp_path / "a.csv", CSVLog, 1), (tmp_path / "a.jsonl", JSONLinesLog, 0)):
        for append, expected in ((False, 2), (True, 4), (False, 2)):
            run([log(path, append=append)], epochs=2)
            assert len(path.read_text().splitlines()) == expected + header


def test_nan_is_null_in_json(tmp_path):
    run([Scripted("loss", [float("nan")]), JSONLinesLog(tmp_path / "log.jsonl")], epochs=1)
    assert json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)["loss"] is None


@pytest.mark.parametrize("log", [CSVLog, JSONLinesLog])
def test_an_unwritable_log_is_refused_before_training(log, tmp_path):
    (tmp_path / "file").write_text("")
    model = network()
    before = weights(model)
    with pytest.raises(OSError, match=f"{log.__name__} cannot write its file.*file/log"):
        run([log(tmp_path / "file" / "log")], model=model)
    with pytest.raises(OSError, match="cannot write"):
        run([log(tmp_path)], model=model)
    np.testing.assert_array_equal(weights(model), before)


def test_schedules_step_by_epoch_by_step_and_by_figure():
    trainer = trainer_for(network(), lr=0.8)
    halving = LearningRate(lr_scheduler.ExponentialLR(trainer.optimizer, 0.5))
    trainer.fit(samples(), epochs=3, callbacks=[halving], progress=False)
    assert trainer.history["lr"] == [0.8, 0.4, 0.2]  # the rate that the epoch was trained with
    trainer = trainer_for(network(), lr=0.8)
    cycle = lr_scheduler.OneCycleLR(trainer.optimizer, 1.0, epochs=2, steps_per_epoch=3)
    trainer.fit(samples(), epochs=2, batch_size=16, callbacks=[LearningRate(cycle, every="step")], progress=False)
    assert cycle.last_epoch == 6
    trainer = trainer_for(network(), lr=0.8)
    plateau = lr_scheduler.ReduceLROnPlateau(trainer.optimizer, factor=0.5, patience=0)
    script = Scripted("validation_loss", [1, 2, 0.5, 1])
    trainer.fit(samples(), samples(), epochs=4, callbacks=[script, LearningRate(plateau)], progress=False)
    assert trainer.history["lr"] == [0.8, 0.8, 0.4, 0.4]
    assert trainer.optimizer.param_groups[0]["lr"] == 0.2


def test_schedules_that_do_not_fit_are_refused():
    trainer = trainer_for(network())
    other = lr_scheduler.StepLR(optim.SGD(network().parameters()), 1)
    with pytest.raises(ValueError, match="belongs to another optimiser"):
        trainer.fit(samples(), callbacks=[LearningRate(other)], progress=False)
    with pytest.raises(ValueError, match="every='epoch'"):
        LearningRate(lr_scheduler.ReduceLROnPlateau(trainer.optimizer), every="step")
    with pytest.raises(ValueError, match="'epoch' or 'step'"):
        LearningRate(other, every="batch")
    with pytest.raises(ValueError, match="did you mean 'loss'"):
        plateau = lr_scheduler.ReduceLROnPlateau(trainer.optimizer)
        trainer.fit(samples(), callbacks=[LearningRate(plateau, monitor="lss")], progress=False)


def history_of(**lists):
    return History(epoch=list(range(1, len(next(iter(lists.values()))) + 1)), **lists)


def test_history_finds_the_best():
    history = history_of(loss=[3.0, float("nan"), 1.0, 1.0], accuracy=[0.1, 0.9, 0.3, 0.9],
                         reward=[1.0, 2.0, 3.0, 0.0])
    assert history.last == {"epoch": 4, "loss": 1.0, "accuracy": 0.9, "reward": 0.0}
    assert (history.best("loss"), history.best_epoch("loss")) == (1.0, 3)
    assert (history.best("accuracy"), history.best_epoch("accuracy")) == (0.9, 2)
    assert history.best("reward", "max") == 3.0
    for name, message in (("reward", "Say mode="), ("los", "did you mean 'loss'")):
        with pytest.raises(ValueError, match=message):
            history.best(name)
    with pytest.raises(ValueError, match="every value of 'loss' is nan"):
        history_of(loss=[float("nan")]).best("loss")
    assert History().last == {}


def test_history_draws_its_curves(tmp_path):
    pytest.importorskip("matplotlib")
    history = history_of(loss=[3.0, 2.0], accuracy=[0.1, 0.9], validation_loss=[3.0, 2.5])
    for name, magic in (("new/curves.png", b"\x89PNG"), ("curves.svg", b"<?xml")):
        history.plot(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)
    text = (tmp_path / "curves.svg").read_text()
    assert all(f"<!-- {word} -->" in text for word in ("loss", "accuracy", "training", "validation"))
    with pytest.raises(ValueError, match="empty"):
        History().plot(tmp_path / "nothing.png")


def test_plot_without_matplotlib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'minidl\[plot\]'"):
        history_of(loss=[1.0]).plot(tmp_path / "curves.png")
