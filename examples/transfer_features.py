"""Feature transfer: a frozen body, its outputs computed once, and a new head trained on them (listings L11, L12).

The original trained its extractor with binary cross-entropy of 1,600 outputs against one label, cut it at a layer that
is not flat, so that the head's shapes did not fit, and set `trainable = True` on a network that `predict` had cut off.
Here the source is a classifier, the cut is a path, and the frozen weights are shown to be the same afterwards.
"""

# %%
import argparse
import hashlib
import time

import numpy as np

import minidl
from minidl import nn, optim, transfer
from minidl.data import fashion_mnist, mnist
from minidl.models import mnist_cnn
from minidl.train import Trainer, accuracy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer images and epochs")
parser.add_argument("--labels", type=int, default=1000)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
minidl.seed(options.seed)
epochs = 5 if options.quick else 30


def train(model: nn.Module, data, epochs: int, label: str) -> None:
    optimizer = optim.Adam(model.named_parameters(), lr=1e-3)
    Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=[accuracy]).fit(
        data, epochs=epochs, batch_size=64, label=label)


def accuracy_of(model: nn.Module, data) -> float:
    return Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(data, batch_size=500)["accuracy"]


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of every tensor of the model."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


# %% Step 1: a classifier of digits
digits = mnist("train", subset=2000 if options.quick else None)
model = mnist_cnn(num_classes=10)
train(model, digits, 1 if options.quick else 3, "MNIST")
body = model.get_submodule("features")
transfer.freeze(body)
before = fingerprint(body)

# %% Step 2: what the frozen body makes of the clothes, computed once
clothes = fashion_mnist("train").balanced(options.labels, np.random.default_rng(options.seed))
clothes_test = fashion_mnist("test")
started = time.perf_counter()
features, labels = transfer.compute_features(model, clothes, at="features")
print(f"features {features.shape}, computed in {time.perf_counter() - started:.2f} s")

# %% Step 3: a head on top; each epoch costs a matrix product
head = nn.Linear(features.shape[1], 10)
started = time.perf_counter()
train(head, (features, labels), epochs, "head on kept features")
cached_seconds = time.perf_counter() - started

# %% The same head trained through the whole network, without keeping the features
minidl.seed(options.seed)
whole = nn.Sequential(body, nn.Linear(features.shape[1], 10))
started = time.perf_counter()
train(whole, clothes, epochs, "head, features anew each epoch")
print(f"\nhead on kept features: {accuracy_of(nn.Sequential(body, head), clothes_test):.2%} in {cached_seconds:.1f} s; "
      f"computed anew each epoch: {accuracy_of(whole, clothes_test):.2%} in {time.perf_counter() - started:.1f} s")

# %% And from scratch with the same labels
scratch = mnist_cnn(num_classes=10)
train(scratch, clothes, epochs, "from scratch")
print(f"from scratch: {accuracy_of(scratch, clothes_test):.2%}")
assert fingerprint(body) == before, "a frozen tensor has changed"
print(f"frozen body: {transfer.frozen(body):,} parameters, the same SHA-256 before and after: {before[:16]}…")
