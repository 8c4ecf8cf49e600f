"""The trainer: the same numbers as a loop written by hand, evaluation, prediction, progress."""

import copy
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from trainers import Batches, network, samples, trainer_for, weights

from minidl import nn, optim
from minidl.data import DataLoader, TensorDataset
from minidl.tensor import Tensor, is_grad_enabled
from minidl.train import Accuracy, Callback, ConfusionMatrix, Trainer, accuracy


class Recorder(Callback):
    """Notes every call."""

    def __init__(self):
        self.calls = []

    def on_fit_begin(self, trainer):
        self.calls.append("fit begins")

    def on_epoch_begin(self, trainer, epoch):
        self.calls.append(f"epoch {epoch} begins")

    def on_batch_end(self, trainer, step, loss):
        assert trainer.model.training
        self.calls.append((step, loss))

    def on_epoch_end(self, trainer, epoch, figures):
        self.calls.append(f"epoch {epoch} ends at {figures['loss']:.6f}")

    def on_fit_end(self, trainer):
        self.calls.append("fit ends")


def test_the_loop_does_what_one_does_by_hand():
    inputs, target = samples()
    model = network()
    twin = copy.deepcopy(model)
    model.eval()
    recorder = Recorder()
    history = trainer_for(model).fit((inputs, target), epochs=2, callbacks=[recorder], batch_size=16,
                                     generator=np.random.default_rng(1), progress=False)
    optimizer, loss_function = optim.SGD(twin.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()
    order = np.random.default_rng(1)
    calls = ["fit begins"]
    for epoch in (1, 2):
        calls.append(f"epoch {epoch} begins")
        rows = order.permutation(44)
        total = 0.0
        for step, start in enumerate(range(0, 44, 16), 1):
            chosen = rows[start:start + 16]
            optimizer.zero_grad()
            loss = loss_function(twin(Tensor(inputs[chosen])), Tensor(target[chosen]))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(chosen)
            calls.append((step, loss.item()))
        calls.append(f"epoch {epoch} ends at {total / 44:.6f}")
        assert history["loss"][epoch - 1] == pytest.approx(total / 44, rel=1e-12)  # the last batch has 12 samples
    np.testing.assert_array_equal(weights(model), weights(twin))
    assert recorder.calls == [*calls, "fit ends"]


@pytest.mark.parametrize("count", [64, 44], ids=["whole groups", "a last group of 8 and 4"])
def test_accumulating_equals_one_large_batch(count):
    data = samples(count)
    small, large = network(), network()
    recorder = Recorder()
    one = trainer_for(small).fit(data, epochs=2, batch_size=8, accumulate=4, shuffle=False, callbacks=[recorder],
                                 progress=False)
    two = trainer_for(large).fit(data, epochs=2, batch_size=32, shuffle=False, progress=False)
    np.testing.assert_allclose(weights(small), weights(large), rtol=1e-12)
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-12)
    assert [call[0] for call in recorder.calls if isinstance(call, tuple)] == [1, 2, 1, 2]


def test_clip_norm_clips_what_the_optimiser_sees():
    model = network()
    before = weights(model)
    Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1.0)).fit(
        samples(), batch_size=44, clip_norm=0.01, progress=False)
    assert np.linalg.norm(weights(model) - before) == pytest.approx(0.01, rel=1e-3)


def test_every_form_of_data_gives_the_same():
    inputs, target = samples(40, np.float32)
    forms = {
        "arrays": (inputs, target),
        "float64 arrays": (inputs.astype(np.float64), target),
        "tensors": [Tensor(inputs), Tensor(target)],
        "lists": (inputs.tolist(), target.tolist()),
        "data set": TensorDataset(inputs, target),
        "items": [(row, int(label)) for row, label in zip(inputs, target)],
        "loader": DataLoader(TensorDataset(inputs, target), batch_size=16),
        "batches": Batches([(inputs[i:i + 16], target[i:i + 16]) for i in (0, 16, 32)]),
    }
    results = {}
    for name, data in forms.items():
        model = network(np.float32)
        trainer = trainer_for(model, metrics=[Accuracy()])
        trainer.fit(data, data, shuffle=False, batch_size=16, progress=False)
        results[name] = (weights(model), trainer.history["validation_loss"], trainer.evaluate(data)["accuracy"],
                         trainer.predict(data))
        assert results[name][0].dtype == results[name][3].dtype == np.float32
    for result in results.values():
        for value, expected in zip(result, results["arrays"]):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_predict_takes_inputs_alone_and_leaves_targets_out():
    inputs, target = samples()
    model = network()
    expected = model(Tensor(inputs)).array
    trainer = Trainer(model, nn.CrossEntropyLoss())
    for data in (inputs, Tensor(inputs), (inputs,), (inputs, target), DataLoader(TensorDataset(inputs), 7)):
        np.testing.assert_allclose(trainer.predict(data, batch_size=10), expected, rtol=1e-12)


def test_evaluation_records_nothing_and_puts_every_mode_back():
    """Dropout is off and BatchNorm's statistics stand still; a part in evaluation mode or frozen stays as it was."""
    seen = []

    class Watcher(nn.Module):
        def forward(self, x):
            seen.append((is_grad_enabled(), self.training))
            return x

    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), Watcher(), nn.Linear(6, 2)).double()
    model[1].eval()
    model[4].frozen = True
    buffers = [buffer.array.copy() for buffer in model.buffers()]
    trainer = Trainer(model, nn.CrossEntropyLoss())
    assert trainer.evaluate(samples(), batch_size=5) == trainer.evaluate(samples(), batch_size=44)
    trainer.predict(samples())
    assert set(seen) == {(False, False)}
    assert [module.training for module in model] == [True, False, True, True, False]
    model[4].frozen = False
    assert model[4].training
    for buffer, before in zip(model.buffers(), buffers):
        np.testing.assert_array_equal(buffer.array, before)
    with pytest.raises(ValueError, match="evaluate, batch 1"):
        trainer.evaluate((np.zeros((4, 3)), np.zeros(4, int)))
    assert model[2].training and is_grad_enabled()


def test_metrics_count_training_and_validation_apart():
    data, others = samples(44), samples(20)
    model = network()
    parts = []

    def share_of_ones(output, target):
        parts.append(output)
        return (np.asarray(output).argmax(axis=1) == 1).mean()

    trainer = trainer_for(model, metrics=[Accuracy(), share_of_ones, ConfusionMatrix(2)])
    history = trainer.fit(data, others, epochs=2, batch_size=16, progress=False)
    output = trainer.predict(others)
    assert history["validation_accuracy"][-1] == accuracy(output, others[1])
    assert history.last["validation_share_of_ones"] == pytest.approx((output.argmax(axis=1) == 1).mean())
    assert history["confusion_matrix"][0].sum() == 44
    assert history["validation_confusion_matrix"][0].sum() == 20
    assert list(history) == trainer.columns
    assert all(isinstance(part, Tensor) and not part.requires_grad for part in parts)


def test_an_evaluation_in_the_middle_of_an_epoch_does_not_disturb_it():
    class Evaluate(Callback):
        def on_batch_end(self, trainer, step, loss):
            trainer.evaluate(samples(7))

    def run(callbacks):
        trainer = trainer_for(network(), metrics=[ConfusionMatrix(2)])
        return trainer.fit(samples(), batch_size=16, shuffle=False, callbacks=callbacks, progress=False)

    disturbed = run([Evaluate()])
    np.testing.assert_array_equal(disturbed["confusion_matrix"], run([])["confusion_matrix"])


def test_freezing_takes_effect_at_the_next_step():
    model = network()

    class FreezeAtStepTwo(Callback):
        def on_batch_end(self, trainer, step, loss):
            if step == 2:
                model[0].requires_grad_(False)
                self.before = [model[0].weight.array.tobytes(), model[2].weight.array.tobytes()]

    callback = FreezeAtStepTwo()
    trainer_for(model).fit(samples(), batch_size=8, callbacks=[callback], progress=False)
    assert model[0].weight.array.tobytes() == callback.before[0]
    assert model[2].weight.array.tobytes() != callback.before[1]


@pytest.mark.parametrize("use", ["evaluate", "predict"])
def test_an_untrained_head_is_named_once(use):
    model = network()
    model[2].weight.untrained = True
    trainer = trainer_for(model)
    with pytest.warns(UserWarning, match="2.weight") as caught:
        getattr(trainer, use)(samples())
        getattr(trainer, use)(samples())
    assert len(caught) == 1
    trainer.fit(samples(), samples(), progress=False)
    assert not model[2].weight.untrained


def test_a_line_after_every_epoch(capsys):
    trainer_for(network(), metrics=[Accuracy()]).fit(samples(), samples(), epochs=2, label="head")
    lines = capsys.readouterr().out.splitlines()
    pattern = (r"head, epoch {}/2: loss \d\.\d{{4}}, accuracy \d\.\d{{4}}, validation loss \d\.\d{{4}}, "
               r"validation accuracy \d\.\d{{4}}, \d+\.\d s, [\d,]+ samples/s")
    assert len(lines) == 2
    assert all(re.fullmatch(pattern.format(epoch), line) for epoch, line in enumerate(lines, 1))


def test_a_bar_on_a_terminal_only(monkeypatch, capsys):
    class Terminal:
        def __init__(self, is_terminal):
            self.text, self.is_terminal = "", is_terminal

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return self.is_terminal

    for is_terminal in (True, False):
        terminal = Terminal(is_terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr("minidl.train.progress.INTERVAL", 0.0)
        trainer = trainer_for(network(), metrics=[Accuracy()])
        trainer.fit(samples(400), samples(), batch_size=23)
        trainer.predict(samples(400), progress=True)
        if is_terminal:
            assert re.search(r"epoch 1/1: +98%.* 391/400 .*samples/s, loss \d\.\d+, accuracy \d\.\d+", terminal.text)
            assert "epoch 1/1 validation: 100%" in terminal.text
            assert "predicting" in terminal.text
        else:
            assert terminal.text == ""


def test_silence_without_progress_and_no_tqdm_loaded():
    code = ("import sys, numpy as np\nfrom minidl import nn, optim\nfrom minidl.train import Trainer\n"
            "model = nn.Linear(2, 2)\n"
            "Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters())).fit("
            "(np.ones((4, 2)), np.ones(4, int)), progress=False)\n"
            "assert not {'tqdm', 'matplotlib'} & set(sys.modules), 'heavy'")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=os.path.dirname(os.path.dirname(__file__)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
