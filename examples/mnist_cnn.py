"""A small CNN on MNIST, 225,034 parameters, 5 epochs (listing L6).

The original could not run: it named layers that do not exist (`Conv2d`, `MaxPooling2d` in Keras) and gave the kernel
size twice; its "98.7 %" was assumed. The figure this prints is measured.
"""

# %%
import argparse
import time
from pathlib import Path

import numpy as np

import minidl
from minidl import nn, optim
from minidl.data import mnist
from minidl.models import mnist_cnn
from minidl.train import Trainer, accuracy, confusion_matrix

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="2,000 images, 2 epochs")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", type=Path, default=Path("runs/mnist_cnn"))
options = parser.parse_args()
minidl.seed(options.seed)
options.output.mkdir(parents=True, exist_ok=True)

# %% Data: images N, 1, 28, 28 in [0, 1]; the last 5,000 training images watch over the training
train, test = mnist("train"), mnist("test")
if options.quick:
    train = train.first(2000)
train, validation = train.split(5000 / 60000)
print(train, test, sep="\n")

# %% Model: conv 32 - pool - conv 64 - pool - dense 128 - dense 10
model = mnist_cnn(num_classes=10, hidden=128)
print(model.summary((1, 28, 28)))

# %% Training; the losses take logits, so there is no softmax layer
trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.named_parameters(), lr=1e-3), metrics=[accuracy])
started = time.perf_counter()
history = trainer.fit(train, validation, epochs=2 if options.quick else options.epochs, batch_size=64)
seconds = time.perf_counter() - started
history.plot(options.output / "curves.png")

# %% The test images are looked at once, here
result = trainer.evaluate(test, batch_size=500)
print(f"test accuracy {result['accuracy']:.2%}, test loss {result['loss']:.4f}, {seconds:.0f} s of training, "
      f"seed {options.seed}; curves in {options.output}")

matrix = confusion_matrix(trainer.predict(test, batch_size=500).argmax(axis=1), test.labels)
np.fill_diagonal(matrix, 0)
for cell in np.argsort(matrix, axis=None)[:-4:-1]:
    true, predicted = np.unravel_index(cell, matrix.shape)
    print(f"a {true} was taken for a {predicted} {matrix[true, predicted]} times")
