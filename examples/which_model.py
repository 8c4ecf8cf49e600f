"""Which model, cut where? Scores from one pass over the labelled data, beside what fine-tuning then reached.

A zoo of small networks is trained on other tasks (digits, photographs of CIFAR-10, wrong labels, hardly at all), scored
on a few labelled clothes, and fine-tuned on them. Do the scores know which will be best? Their rank correlations with
the accuracy reached say so. CIFAR-10 and the published ResNet-20 are used where MINIDL_DATA has them.
"""

# %%
import argparse

import numpy as np

import minidl
from minidl import nn, optim, transfer
from minidl.data import cifar10, fashion_mnist, mnist
from minidl.errors import DataNotFoundError
from minidl.models import create_model, mnist_cnn
from minidl.train import Trainer, accuracy
from minidl.transfer.selection.picture import draw_scores
from minidl.transfer.selection.ranks import kendall, spearman

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer images, candidates and epochs")
parser.add_argument("--labels", type=int, default=500, help="labelled images of the target")
parser.add_argument("--seeds", type=int, default=2, help="fine-tunings of each candidate")
options = parser.parse_args()
count, epochs, labels, seeds = (600, 15, 100, 1) if options.quick else (4000, 10, options.labels, options.seeds)


def fit(model: nn.Module, data, epochs: int) -> nn.Module:
    """Adam, the same budget for all."""
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.named_parameters(), lr=1e-3))
    trainer.fit(data, epochs=epochs, batch_size=50, progress=False)
    return model


def grey(images: np.ndarray) -> np.ndarray:
    """Colour photographs (N, 3, 32, 32) as grey ones of MNIST's size (N, 1, 28, 28)."""
    return images.mean(1, keepdims=True)[:, :, 2:30, 2:30].astype(np.float32) / 255


def colour(images: np.ndarray) -> np.ndarray:
    """Clothes (N, 1, 28, 28) as CIFAR's networks want them (N, 3, 32, 32)."""
    return np.repeat(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))), 3, axis=1)


# %% The zoo: networks of one architecture that have learnt different things
minidl.seed(0)
digits, clothes = mnist("train", subset=count), fashion_mnist("train")
x, y = digits.arrays()
rest, target = clothes.split(labels / len(clothes), np.random.default_rng(0))
garments = rest.balanced(count, np.random.default_rng(1))
shoes = garments.select(np.flatnonzero(np.isin(garments.labels, (5, 7, 9))))
zoo = {
    "fresh weights": mnist_cnn(),
    "digits, 20 steps": fit(mnist_cnn(), (x[:1000], y[:1000]), 1),
    "digits": fit(mnist_cnn(), (x, y), 3),
    "digits, 0 or 1": fit(mnist_cnn(2), (x[y < 2], y[y < 2]), 3),
    "digits, wrong labels": fit(mnist_cnn(), (x, np.random.default_rng(0).permutation(y)), 8),
    "three kinds of shoes": fit(mnist_cnn(), shoes, 3),
    "other clothes": fit(mnist_cnn(), garments, 3),
}
prepare = {}
try:
    photographs = cifar10("train", subset=count)
    images, objects = grey(photographs.images), photographs.labels
    zoo |= {"objects, grey": fit(mnist_cnn(), (images, objects), 3),
            "animals, grey": fit(mnist_cnn(), (images[np.isin(objects, range(2, 8))],
                                               objects[np.isin(objects, range(2, 8))]), 3)}
    zoo["ResNet-20, CIFAR-10"] = create_model("resnet20", pretrained="resnet20-cifar10")
    zoo["ResNet-20, fresh"] = create_model("resnet20")
    prepare = {name: colour for name in zoo if name.startswith("ResNet")}
except DataNotFoundError as error:
    print(f"without CIFAR-10 and ResNet-20: {str(error).splitlines()[0]}")

# %% Their scores for the clothes: one pass each
found = transfer.which_model(zoo, target, prepare=prepare)
print(found)

# %% What fine-tuning reaches, with the same labels, steps and rate for all
test = fashion_mnist("test", subset=200 if options.quick else 1000)
reached = {}
for name, model in zoo.items():
    runs = []
    for seed in range(seeds):
        minidl.seed(seed)
        twin = transfer.build(transfer.structure(model))
        twin.load_state_dict(model.state_dict())
        transfer.rehead(twin, 10)
        ready = [(colour(part.images) if name in prepare else part.images, part.labels) for part in (target, test)]
        train, held_out = ((transfer.preprocess(images, getattr(model, "preprocessing", None) or {}), y)
                           for images, y in ready)
        fit(twin, train, epochs)
        runs.append(Trainer(twin, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(held_out)["accuracy"])
    reached[name] = float(np.mean(runs))

# %% Rank correlation of each score with the accuracy reached
heads = {cut.candidate: cut for cut in found.cuts if cut.at is None}
best = {name: max((cut for cut in found.along(name)), key=lambda cut: cut.probe.accuracy) for name in zoo}
scores = {
    "probe, best cut": [best[name].probe.accuracy for name in zoo],
    "probe, head": [heads[name].probe.accuracy for name in zoo],
    "LogME, best cut": [max(cut.logme for cut in found.along(name)) for name in zoo],
    "LogME, head": [heads[name].logme for name in zoo],
    "H-score, head": [heads[name].h_score for name in zoo],
    "LEEP": [heads[name].leep for name in zoo],
    "NCE": [heads[name].nce for name in zoo],
}
final = np.array(list(reached.values()))
print(f"\n| candidate | {' | '.join(scores)} | fine-tuned |\n| --- {'| ---: ' * (len(scores) + 1)}|")
for row in np.argsort(-final):
    print(f"| {list(zoo)[row]} | {' | '.join(f'{s[row]:.3f}' for s in scores.values())} | {final[row]:.2%} |")
print("\n| score | Spearman | Kendall |\n| --- | ---: | ---: |")
for name, values in scores.items():
    print(f"| {name} | {spearman(values, final):+.2f} | {kendall(values, final):+.2f} |")
draw_scores(scores, final, "which_model.png")
print(f"{len(zoo)} candidates, {labels} labels, {seeds} runs each; drawn in which_model.png")
