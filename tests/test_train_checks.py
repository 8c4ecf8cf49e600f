"""What `Trainer.fit` says before its first step and when a loss is not finite, and where it must say nothing."""


import numpy as np
import pytest

import minidl
from minidl import nn, optim
from minidl.data import DataLoader, ImageDataset, TensorDataset, random_split
from minidl.train import LearningRate, Trainer, TrainingWarning

DRAW = np.random.default_rng(0)
X, Y = DRAW.random((64, 20), np.float32), DRAW.integers(0, 3, 64)
PIXELS, DIGITS = DRAW.integers(0, 256, (32, 784)), DRAW.integers(0, 10, 32)


def fit(model, data, validation=None, lr=1e-3, loss=None, **options):
    trainer = Trainer(model, loss or nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=lr))
    return trainer.fit(data, validation, progress=False, **options)


def net():
    return nn.Linear(20, 3)


def halves():
    return random_split(TensorDataset(X, Y), [50, 14])


def test_a_learning_rate_of_zero_is_noticed():
    with pytest.warns(TrainingWarning, match="learning rate is 0"):
        fit(net(), (X, Y), lr=0)


def test_a_schedule_may_start_at_zero():
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert optimizer.param_groups[0]["lr"] == 0
    Trainer(model, nn.CrossEntropyLoss(), optimizer).fit((X, Y), callbacks=[LearningRate(schedule, "step")],
                                                         progress=False)


@pytest.mark.parametrize(("train", "validation", "words"), [
    ((X, Y), (X, Y), "is the training data"),
    ((X, Y), (X.copy(), Y.copy()), "is the training data"),
    ((X, Y), (X[:10], Y[:10]), "holds samples of the training data"),
    (halves()[0], halves()[0].dataset, None),
])
def test_validation_on_training_data_is_noticed(train, validation, words):
    if words is None:
        whole = TensorDataset(X, Y)
        train, validation, words = random_split(whole, [50, 14])[0], whole, "holds samples"
    with pytest.warns(TrainingWarning, match=words):
        fit(net(), train, validation)


@pytest.mark.parametrize(("train", "validation"), [
    ((X[10:], Y[10:]), (X[:10], Y[:10])),
    ((X[::2], Y[::2]), (X[1::2], Y[1::2])),
    ((np.zeros((8, 20), np.float32), Y[:8]), (np.zeros((8, 20), np.float32), Y[8:16])),
    halves(),
], ids=["slices", "every other", "all alike", "split"])
def test_data_held_out_is_not_blamed(train, validation):
    fit(net(), train, validation)


def test_samplers_may_divide_one_data_set():
    data = TensorDataset(X, Y)
    fit(net(), DataLoader(data, 8, sampler=range(40)), DataLoader(data, 8, sampler=range(40, 64)))


def test_validation_on_a_test_set_is_noticed():
    def images(name):
        return ImageDataset(DRAW.integers(0, 256, (20, 1, 4, 4), np.uint8), DRAW.integers(0, 2, 20), ("a", "b"), name)

    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.warns(TrainingWarning, match="'mnist test'"):
        fit(model, images("mnist train"), images("mnist test"))
    fit(model, *images("mnist train").split(0.3))


@pytest.mark.parametrize("inputs", [PIXELS.astype(np.uint8), PIXELS.astype(np.float32)], ids=["bytes", "numbers"])
def test_raw_pixels_are_noticed(inputs):
    with pytest.warns(TrainingWarning, match=r"0 to 255, raw pixels .* images / 255"):
        fit(nn.Linear(784, 10), (inputs, DIGITS), lr=1e-6)
    with pytest.warns(TrainingWarning, match="raw pixels"):
        fit(nn.Sequential(nn.Conv2d(1, 2, 28), nn.Flatten(), nn.Linear(2, 10)),
            (inputs.reshape(-1, 1, 28, 28), DIGITS), lr=1e-6)


def test_raw_pixels_where_a_file_names_the_range():
    model = nn.Sequential(nn.Linear(784, 10))
    model.preprocessing = {"range": [0.0, 1.0], "mean": [0.13], "std": [0.31]}
    with pytest.warns(TrainingWarning, match=r"trained on 0 to 1: give model\.preprocess"):
        fit(model, (PIXELS.astype(np.float32), DIGITS), lr=1e-6)
    model.preprocessing = {"range": [0.0, 255.0]}
    fit(model, (PIXELS.astype(np.float32), DIGITS), lr=1e-6)


class Scaling(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        return self.fc(x / 255)


@pytest.mark.parametrize(("model", "inputs"), [
    (Scaling, PIXELS.astype(np.float32)),
    (lambda: nn.Sequential(nn.BatchNorm1d(784), nn.Linear(784, 10)), PIXELS.astype(np.float32)),
    (lambda: nn.Sequential(nn.Embedding(256, 2), nn.Flatten(), nn.Linear(1568, 10)), PIXELS.astype(np.uint8)),
    (lambda: nn.Sequential(nn.Embedding(256, 2), nn.Flatten(), nn.Linear(1568, 10)), PIXELS),
    (lambda: nn.Linear(784, 10), (PIXELS / 255).astype(np.float32)),
    (lambda: nn.Linear(784, 10), (PIXELS - 128).astype(np.float32)),
    (lambda: nn.Linear(784, 10), (PIXELS % 17).astype(np.float32)),
    (lambda: nn.Linear(20, 10), PIXELS[:, :20].astype(np.float32)),
], ids=["scaled inside", "BatchNorm first", "bytes looked up", "tokens", "scaled", "centred", "0..16", "a small table"])
def test_other_whole_numbers_are_not_blamed(model, inputs):
    before = minidl.random.seed(3).bit_generator.state
    model = model()
    minidl.seed(3)
    fit(model, (inputs, DIGITS), lr=1e-6, shuffle=False)
    assert minidl.random.generator().bit_generator.state == before and model.training


def test_labels_out_of_range_are_found_before_the_first_step_wherever_they_stand():
    model = net()
    before = model.weight.numpy().copy()
    late = Y.copy()
    late[60] = 7
    with pytest.raises(IndexError, match=r"training data: label 7 of sample 60 .* 3 classes .* has 8 outputs"):
        fit(model, (X, late), shuffle=False)
    with pytest.raises(IndexError, match=r"validation data: label 3 .* start at 1"):
        fit(model, (X[:40], Y[:40]), (X[40:], Y[40:] + 1))
    assert np.array_equal(model.weight.numpy(), before)
    late[60] = -100
    fit(model, (X, late), shuffle=False)


class Logarithm(nn.Module):
    def forward(self, x):
        with np.errstate(invalid="ignore"):
            return (x - 0.5).log()


def test_a_nan_loss_names_step_samples_and_layer_and_changes_nothing_else():
    body = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5, generator=np.random.default_rng(1)), Logarithm())
    model = nn.Sequential(nn.Linear(20, 8), body, nn.Linear(8, 3))
    weights = {name: value.numpy().copy() for name, value in model.named_parameters()}
    words = (r"epoch 1, step 1: the loss is nan .*\(samples 0, 1, 2, 3 of the data\); first went bad: "
             r"1\.2 \(Logarithm\(\)\): log made nan")
    with pytest.raises(FloatingPointError, match=words):
        fit(model, (X, Y), batch_size=4, shuffle=False)
    assert all(np.array_equal(value.numpy(), weights[name]) for name, value in model.named_parameters())
    assert body[0].num_batches_tracked.item() == 1  # the batch itself; looking for the cause did not count again
    drawn = np.random.default_rng(1)
    drawn.bit_generator.state = body[1].generator.bit_generator.state
    twin = nn.Dropout(0.5, generator=np.random.default_rng(1))
    twin(minidl.ones(4, 8))
    assert twin.generator.bit_generator.state == drawn.bit_generator.state


@pytest.mark.parametrize("workers", [0, 1])
def test_the_sample_that_is_not_a_number_is_named(workers):
    spoilt = X.copy()
    spoilt[17, 3] = np.nan
    loader = DataLoader(TensorDataset(spoilt, Y), 8, shuffle=True, num_workers=workers,
                        generator=np.random.default_rng(5))
    with pytest.raises(FloatingPointError, match="samples 17 of the data.*inputs of this batch hold nan"):
        fit(net(), loader)
    with pytest.raises(FloatingPointError, match="samples 17 of the data"):
        fit(net(), loader, accumulate=3)
    with pytest.raises(FloatingPointError, match="rows 17 of the batch"):
        fit(net(), iter([(spoilt, Y)]))
