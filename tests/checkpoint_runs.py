"""Small trainings of every kind that a checkpoint must carry on, for `test_checkpoint.py`; as a program, runs them.

    python checkpoint_runs.py FOLDER save|resume NAME…

`save` trains until step STOP[name] and crashes there, `resume` goes on in this new process and prints what came out.
"""

import hashlib
import json
import random as python_random
import sys
from pathlib import Path

import numpy as np

import minidl
from minidl import nn, optim, random
from minidl.data import (
    BucketBatchSampler,
    Compose,
    DataLoader,
    Dataset,
    RandomCrop,
    RandomHorizontalFlip,
    SequenceDataset,
)
from minidl.data.images import ImageDataset
from minidl.optim import lr_scheduler
from minidl.train import (
    Accuracy,
    BestWeights,
    Callback,
    Checkpoint,
    ConfusionMatrix,
    EarlyStopping,
    LearningRate,
    Trainer,
    WeightAveraging,
)
from minidl.transfer import ExponentialMovingAverage, freeze


class Crash(Exception):
    pass


class CrashAt(Callback):
    """Raises after the nth step, when the checkpoint of that step is written."""

    place = 1000

    def __init__(self, steps):
        self.left = steps

    def on_batch_end(self, trainer, step, loss):
        self.left -= 1
        if self.left == 0:
            raise Crash


def points(count=50, classes=3):
    draw = np.random.default_rng(5)
    inputs = draw.standard_normal((count, 6)).astype(np.float32)
    return inputs, (inputs[:, :classes].argmax(axis=1)).astype(np.int64)


def images(transform, count=44):
    draw = np.random.default_rng(6)
    pixels = draw.integers(0, 256, (count, 1, 10, 10)).astype(np.uint8)
    return ImageDataset(pixels, draw.integers(0, 3, count), list("abc"), "images", "made", True, transform)


def trainer_of(model, optimizer, metrics=()):
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, list(metrics))


def perceptron(*between):
    return nn.Sequential(nn.Linear(6, 16), *between, nn.ReLU(), nn.Linear(16, 3))


def momentum():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)  # without names
    return trainer_of(model, optimizer, [Accuracy(), ConfusionMatrix()]), points(), points(), [
        BestWeights("validation_loss")], {"batch_size": 8, "generator": np.random.default_rng(1)}


def adam_dropout():
    model = perceptron(nn.Dropout(0.3), nn.BatchNorm1d(16), nn.Dropout(0.2, generator=np.random.default_rng(8)))
    optimizer = optim.AdamW(model.named_parameters(), lr=0.01)
    schedule = LearningRate(lr_scheduler.CosineAnnealingLR(optimizer, 15), "step")
    return trainer_of(model, optimizer, [Accuracy()]), points(), points(20), [
        schedule, EarlyStopping("validation_loss", patience=9, restore_best=True)], {"batch_size": 8}


def augmented(workers, own):
    generator = np.random.default_rng(4) if own else None
    transform = Compose([RandomCrop(10, padding=2, generator=generator), RandomHorizontalFlip()])
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Dropout(0.2), nn.Linear(64, 3))
    optimizer = optim.Adam(model.named_parameters(), lr=0.01)
    loader = DataLoader(images(transform), 8, shuffle=True, num_workers=workers, generator=np.random.default_rng(2))
    validation = DataLoader(images(RandomCrop(10, padding=1)), 8, num_workers=workers)
    plateau = LearningRate(lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5))
    return trainer_of(model, optimizer), loader, validation, [plateau], {}


def frozen_body():
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU()), nn.Linear(16, 3))
    for _ in range(3):
        model(minidl.tensor(points()[0]))  # statistics of its own
    freeze(model, "0")
    optimizer = optim.RMSprop(model.named_parameters(), lr=0.01, momentum=0.5)
    average = WeightAveraging(ExponentialMovingAverage(model, 0.8, warmup=True), every=2, keep=True)
    return trainer_of(model, optimizer), points(), None, [average], {"batch_size": 16, "accumulate": 2}


class Recurrent(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(20, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, dropout=0.3)
        self.head = nn.Linear(5, 3)

    def forward(self, ids, lengths):
        return self.head(self.lstm(self.embedding(ids))[0].mean(1))


def lstm():
    draw = np.random.default_rng(7)
    data = SequenceDataset([draw.integers(1, 20, draw.integers(2, 9)) for _ in range(50)], draw.integers(0, 3, 50))
    loader = DataLoader(data, batch_sampler=BucketBatchSampler(data.lengths, 8, pool=2), num_workers=1)
    model = Recurrent()
    return trainer_of(model, optim.Adam(model.named_parameters(), lr=0.01, amsgrad=True)), loader, None, [], {
        "clip_norm": 0.5}


class Noisy(Dataset):
    """Draws from the generators that NumPy and Python share."""

    def __len__(self):
        return 50

    def __getitem__(self, index):
        noise = np.random.standard_normal(6) + python_random.random()
        return (points()[0][index] + noise).astype(np.float32), points()[1][index]


def global_noise():
    model = perceptron(nn.Dropout(0.3))
    loader = DataLoader(Noisy(), 8, shuffle=True, num_workers=1)
    return trainer_of(model, optim.SGD(model.named_parameters(), lr=0.1, nesterov=True, momentum=0.8)), loader, None, \
        [], {}


class Own:
    """An iterable of batches that is no DataLoader, shuffled by a generator of its own."""

    def __init__(self):
        self.generator = np.random.default_rng(3)

    def __iter__(self):
        inputs, target = points()
        for some in np.array_split(self.generator.permutation(len(inputs)), 7):
            yield inputs[some], target[some]


def own_batches():
    model = perceptron()
    return trainer_of(model, optim.SGD(model.named_parameters(), lr=0.1)), Own(), None, [], {}


RUNS = {
    "momentum": momentum, "adam and dropout": adam_dropout, "augmentation": lambda: augmented(0, False),
    "thread": lambda: augmented(1, False), "thread and own generator": lambda: augmented(1, True),
    "frozen body": frozen_body, "LSTM": lstm, "global generators": global_noise, "batches of one's own": own_batches,
    "end of an epoch": momentum, "last step of an epoch": lambda: augmented(1, True),
}
STOP = {"end of an epoch": 7, "last step of an epoch": 12, "frozen body": 3}  # else step 10, in the middle of epoch 2
EPOCHS = 3


def prepared(name, extra=()):
    """The trainer, and a function that runs it."""
    random.seed(1)
    np.random.seed(2)
    python_random.seed(3)
    trainer, train, validation, callbacks, options = RUNS[name]()
    return trainer, lambda: trainer.fit(train, validation, EPOCHS, [*extra, *callbacks], progress=False,
                                        **options), (train, callbacks, options)


def outcome(trainer, parts):
    """A hash of everything that must be the same: weights, buffers, moments, figures, and the next random numbers."""
    train, callbacks, options = parts
    digest = hashlib.sha256()
    for name, tensor in (*trainer.model.named_parameters(), *trainer.model.named_buffers()):
        digest.update(name.encode() + tensor.array.tobytes())
    optimizer = trainer.optimizer.state_dict()
    for values in optimizer["state"].values():
        for value in values.values():
            digest.update(np.asarray(value).tobytes())
    figures = {name: [np.asarray(value).tolist() for value in values] for name, values in trainer.history.items()
               if name != "seconds"}
    states = [[type(one).__name__, {key: value for key, value in one.state_dict().items() if key != "weights"}]
              for one in callbacks if not isinstance(one, WeightAveraging)]
    next_numbers = [random.generator().random(), np.random.random(), python_random.random()]
    next_numbers += [one.random() for one in (options.get("generator"), getattr(train, "generator", None)) if one]
    digest.update(json.dumps([figures, optimizer["param_groups"], states, next_numbers], default=str).encode())
    return digest.hexdigest()


def whole(name):
    trainer, run, parts = prepared(name)
    run()
    return outcome(trainer, parts)


def save(name, folder):
    stop = STOP.get(name, 10)
    trainer, run, _ = prepared(name, [CrashAt(stop + (name == "end of an epoch")),
                                      Checkpoint(folder, every_steps=None if name == "end of an epoch" else stop)])
    try:
        run()
    except Crash:
        return
    raise AssertionError("the run ended before it crashed")


def resume(name, folder):
    trainer, run, parts = prepared(name, [Checkpoint(folder)])
    random.seed(77)  # whatever this process did before
    trainer.resume(folder)
    run()
    return outcome(trainer, parts)


if __name__ == "__main__":
    folder, verb, *names = sys.argv[1:]
    results = {name: globals()[verb](name, Path(folder, name)) for name in names}
    print(json.dumps(results))
