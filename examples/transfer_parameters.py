"""Parameter transfer: a CNN pre-trained on MNIST, fine-tuned on Fashion-MNIST with few labels (listings L8, L9).

The original copied the digit head along with the rest (it fitted only because both tasks have ten classes) and had
nothing to compare with. Here the head is new, and every run stands beside one from scratch with the same labels, the
same number of steps and the same seed.
"""

# %%
import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from tqdm import tqdm

import minidl
from minidl import nn, optim, transfer
from minidl.data import fashion_mnist, mnist
from minidl.models import mnist_cnn
from minidl.train import Trainer, accuracy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="two shares of the labels, one seed, few steps")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--steps", type=int, default=940, help="optimiser steps of every run on the target")
parser.add_argument("--output", type=Path, default=Path("runs/transfer_parameters"))
options = parser.parse_args()
shares = (0.01, 0.05) if options.quick else (0.01, 0.05, 0.2, 1.0)
seeds, steps = (1, 60) if options.quick else (options.seeds, options.steps)
options.output.mkdir(parents=True, exist_ok=True)
BATCH = 64


def train_for(model: nn.Module, dataset, steps: int) -> None:
    """Train for a number of steps (whole epochs), whatever the size of the data set."""
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.named_parameters(), lr=1e-3))
    per_epoch = -(-len(dataset) // BATCH)
    trainer.fit(dataset, epochs=max(1, round(steps / per_epoch)), batch_size=BATCH, progress=False)


def accuracy_of(model: nn.Module, dataset) -> float:
    return Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(dataset, batch_size=500)["accuracy"]


# %% The source: MNIST, trained once for each seed and saved
digits, digits_test = mnist("train"), mnist("test")
sources = []
bar = tqdm(total=seeds * (1 + 2 * len(shares)), unit="run")
for seed in range(seeds):
    bar.set_description(f"MNIST, seed {seed}")
    minidl.seed(seed)
    model = mnist_cnn(num_classes=10)
    train_for(model, digits, steps)
    sources.append(options.output / f"source-{seed}.safetensors")
    transfer.save(model, sources[-1], classes=digits.classes)
    bar.write(f"seed {seed}: {accuracy_of(model, digits_test):.2%} on MNIST's test images")
    bar.update()

# %% The target: Fashion-MNIST with a share of its labels, from scratch and from the source
clothes, clothes_test = fashion_mnist("train"), fashion_mnist("test")
results = []
for share in shares:
    for seed, source in enumerate(sources):
        few = clothes.balanced(share, np.random.default_rng(seed))
        row = {"share": share, "labels": len(few), "seed": seed}
        for method in ("scratch", "transfer"):
            bar.set_description(f"{len(few):,} labels, seed {seed}, {method}")
            minidl.seed(100 + seed)
            started = time.perf_counter()
            model = mnist_cnn(num_classes=10) if method == "scratch" else transfer.rehead(transfer.load(source), 10)
            train_for(model, few, steps)
            row[method] = accuracy_of(model, clothes_test)
            row[f"{method}_seconds"] = time.perf_counter() - started
            bar.update()
        results.append(row)
bar.close()
transfer.write_text(options.output / "results.json", json.dumps(results, indent=2))

# %% The table: mean and standard deviation over the seeds
print("\n| labels | from scratch | transfer | difference in points |\n| ---: | ---: | ---: | ---: |")
for share in shares:
    rows = [row for row in results if row["share"] == share]
    cells = []
    for values in ([r["scratch"] for r in rows], [r["transfer"] for r in rows]):
        cells.append(f"{mean(values):.2%}" + (f" ± {stdev(values):.2%}" if len(values) > 1 else ""))
    gain = 100 * mean(row["transfer"] - row["scratch"] for row in rows)
    print(f"| {rows[0]['labels']:,} ({share:.0%}) | {cells[0]} | {cells[1]} | {gain:+.2f} |")
