"""ResNet-20 carried from CIFAR-10 to clothes, and to five of its own classes: fine_tune against training from scratch.

Fashion-MNIST is another domain: grey drawings of 28x28 pixels, padded and repeated to the 3x32x32 that the network
knows. Five animals of CIFAR-10 are the same domain, and the very images that the network was trained on; that is what
transfer gives at best, for the test images alone are new. Both sides make as many steps of the same size of batch.
The weights are those of resnet20_cifar10.py. Finished runs are kept in results.json and not made again; delete it to
begin anew.
"""

# %%
import json
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import minidl
from minidl import nn, transfer
from minidl.data import ImageDataset, Normalize, cifar10, fashion_mnist
from minidl.errors import DataNotFoundError
from minidl.models import create_model
from minidl.train import Trainer, accuracy, fine_tune

QUICK = "--quick" in sys.argv
EPOCHS = {20: (3, 17), 100: (1, 5), 1000: (0, 1)}  # labels a class: epochs of the head alone, then of all layers
if QUICK:
    EPOCHS = {20: (1, 2)}
SEEDS, TEST_IMAGES = (1, 200) if QUICK else (3, 2000)
ANIMALS = ("bird", "cat", "deer", "dog", "frog")
output = Path("runs/resnet20_transfer")
output.mkdir(parents=True, exist_ok=True)

# %% The trained network, and the data in the form that it knows
try:
    source = create_model("resnet20", pretrained="resnet20-cifar10")
    clothes, objects = [fashion_mnist(part) for part in ("train", "test")], [cifar10(p) for p in ("train", "test")]
except DataNotFoundError as error:
    sys.exit(f"{error}\nThis example needs the trained weights, CIFAR-10 and Fashion-MNIST.")
normalize = Normalize(source.preprocessing["mean"], source.preprocessing["std"])


def as_colour(data: ImageDataset) -> ImageDataset:
    """Grey images (N, 1, 28, 28) as (N, 3, 32, 32): a black border, three equal channels."""
    images = np.repeat(np.pad(data.images, ((0, 0), (0, 0), (2, 2), (2, 2))), 3, axis=1)
    return ImageDataset(images, data.labels, data.classes, transform=normalize)


def animals(data: ImageDataset) -> ImageDataset:
    """The images of five classes, numbered from 0."""
    numbers = [data.classes.index(name) for name in ANIMALS]
    chosen = np.flatnonzero(np.isin(data.labels, numbers))
    return ImageDataset(data.images[chosen], np.searchsorted(numbers, data.labels[chosen]), ANIMALS,
                        transform=normalize)


targets = {
    "Fashion-MNIST": [as_colour(clothes[0]), as_colour(clothes[1].first(TEST_IMAGES))],
    "five classes of CIFAR-10": [animals(objects[0]), animals(objects[1]).first(TEST_IMAGES)],
}

# %% All runs
results = output / ("quick.json" if QUICK else "results.json")
rows = json.loads(results.read_text()) if results.is_file() and not QUICK else []
for labels, (head_epochs, epochs) in EPOCHS.items():
    for seed in range(SEEDS):
        for target, (train, test) in targets.items():
            if any((row["target"], row["labels"], row["seed"]) == (target, labels, seed) for row in rows):
                continue
            classes = len(train.classes)
            few = train.balanced(labels * classes, np.random.default_rng(seed))
            row = {"target": target, "labels": labels, "seed": seed}
            for method in ("scratch", "fine_tune"):
                minidl.seed(100 + seed)
                started = time.perf_counter()
                if method == "scratch":  # the same schedule for all layers at once, at a rate that suits fresh weights
                    model, plan = create_model("resnet20", classes), (0, head_epochs + epochs)
                    options = {"lr": 1e-2, "decay": 1.0}
                else:
                    model = transfer.rehead(create_model("resnet20", pretrained="resnet20-cifar10"), classes)
                    plan, options = (head_epochs, epochs), {}
                fine_tune(model, few, head_epochs=plan[0], epochs=plan[1], progress=False, **options)
                row[f"{method}_seconds"] = round(time.perf_counter() - started, 1)
                measured = Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(test)
                row[method] = round(measured["accuracy"], 4)
            rows.append(row)
            results.write_text(json.dumps(rows, indent=1))
            print(f"{target}, {labels} labels a class, seed {seed}: from scratch {row['scratch']:.1%} in "
                  f"{row['scratch_seconds']} s, fine_tune {row['fine_tune']:.1%} in {row['fine_tune_seconds']} s")

# %% The table and the picture: mean and standard deviation over the seeds
figure = Figure(figsize=(9, 3.6), layout="constrained")
print("\n| target | labels a class | from scratch | fine_tune | points |\n| --- | ---: | ---: | ---: | ---: |")
for axes, target in zip(figure.subplots(1, 2, sharey=True), targets):
    for method, label in (("scratch", "from scratch"), ("fine_tune", "fine_tune")):
        found = [[row[method] for row in rows if (row["target"], row["labels"]) == (target, n)] for n in EPOCHS]
        axes.errorbar(list(EPOCHS), [100 * np.mean(values) for values in found],
                      [100 * np.std(values) for values in found], marker="o", capsize=3, label=label)
    axes.set(xscale="log", xlabel="labels a class", ylabel="test accuracy (%)", title=target)
    axes.set_xticks(list(EPOCHS), [str(n) for n in EPOCHS])
    axes.grid(alpha=0.3)
    axes.legend()
    for n in EPOCHS:
        pair = np.array([[row["scratch"], row["fine_tune"]] for row in rows if (row["target"], row["labels"])
                         == (target, n)])
        (a, b), (sa, sb) = pair.mean(0), pair.std(0)
        print(f"| {target} | {n:,} | {a:.1%} ± {sa:.1%} | {b:.1%} ± {sb:.1%} | {100 * (b - a):+.1f} |")
figure.savefig(output / "accuracy.png", dpi=120)
print(f"drawn in {output / 'accuracy.png'}")
