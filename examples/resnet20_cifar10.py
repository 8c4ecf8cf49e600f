"""A network that others trained, read from their file and measured: ResNet-20 on CIFAR-10.

The weights are those of Y. Idelbayev (github.com/akamaster/pytorch_resnet_cifar10, resnet20-12fca82f.th), published
with an error of 8.27 %. The file is a pickle in the format that PyTorch had before 1.6; nothing in it is run, and
PyTorch is not needed. It is looked for as weights/resnet20-12fca82f.th in the folder that MINIDL_DATA names, beside
CIFAR-10.
"""

# %%
import sys
import time

import numpy as np

from minidl import no_grad, transfer
from minidl.data import cifar10
from minidl.errors import DataNotFoundError
from minidl.models import create_model

IMAGES = 1000 if "--quick" in sys.argv else 10_000

# %% The network with its weights; the file says nothing about classes and preprocessing, minidl knows both
try:
    model = create_model("resnet20", pretrained="resnet20-cifar10").eval()
    test = cifar10("test")
except DataNotFoundError as error:
    sys.exit(f"{error}\nThis example needs the trained weights and CIFAR-10.")
print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters from {model.provenance['file']}, "
      f"licence {model.licence}")
print(f"images: {model.preprocessing}")

# %% How many of the test images it gets right: images N, 3, 32, 32, 250 at a time
right = np.zeros(10, int)
started = time.perf_counter()
with no_grad():
    for first in range(0, IMAGES, 250):
        batch = slice(first, first + 250)
        scores = model(model.preprocess(test.images[batch]))  # N, 10
        labels = test.labels[batch]
        right += np.bincount(labels[scores.numpy().argmax(axis=1) == labels], minlength=10)
seconds = time.perf_counter() - started
print(f"{right.sum():,} of {IMAGES:,} test images right: {right.sum() / IMAGES:.2%} in {seconds:.1f} s "
      "(published: 91.73 % of 10,000)")
for name, found, count in zip(model.classes, right, np.bincount(test.labels[:IMAGES])):
    print(f"{name:>12} {found / count:.1%}")

# %% Its body in front of a fresh head for five classes: what fine-tuning starts from
transfer.rehead(model, 5)
transfer.freeze(model, "conv1", "bn1", "layer1", "layer2")
print(f"with a head for five classes and two stages frozen, {transfer.trainable(model):,} parameters are trained")
