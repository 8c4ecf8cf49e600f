"""A CNN of 122,570 parameters on CIFAR-10 (listing L19).

The original called this untrained network "pre-trained", counted its layers wrong, and used the test images as the
validation set while calling them unseen. Here a tenth of the training images watches over the training, and the test
images are looked at once, at the end.
"""

# %%
import argparse
import time
from pathlib import Path

from colour_images import colour_images

import minidl
from minidl import nn, optim
from minidl.models import cifar_cnn
from minidl.train import BestWeights, Trainer, accuracy, confusion_matrix

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="2,000 images, 1 epoch")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", type=Path, default=Path("runs/cifar10_cnn"))
options = parser.parse_args()
minidl.seed(options.seed)
options.output.mkdir(parents=True, exist_ok=True)

# %% Data: images N, 3, 32, 32 in [0, 1], split into train, validation and test
train, test = colour_images("train"), colour_images("test")
if options.quick:
    train, test = train.first(2000), test.first(1000)
train, validation = train.split(0.1)
print(train, validation, test, sep="\n")

# %% Model: conv 32 - pool - conv 64 - pool - conv 64 - dense 64 - dense 10
model = cifar_cnn(num_classes=10)
print(model.summary((3, 32, 32)))

# %%
trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.named_parameters(), lr=1e-3), metrics=[accuracy])
started = time.perf_counter()
history = trainer.fit(train, validation, epochs=1 if options.quick else options.epochs, batch_size=64,
                      callbacks=[BestWeights("validation_accuracy")])
seconds = time.perf_counter() - started
history.plot(options.output / "curves.png")

# %% The test images, once
result = trainer.evaluate(test, batch_size=500)
print(f"test accuracy {result['accuracy']:.2%}, {seconds:.0f} s of training, seed {options.seed}; "
      f"curves in {options.output}")
predicted = trainer.predict(test, batch_size=500).argmax(axis=1)
matrix = confusion_matrix(predicted, test.labels)
print("\nwhat is taken for what (rows: true, columns: predicted)")
width = max(map(len, train.classes))
for name, row in zip(train.classes, matrix):
    print(f"{name:>{width}} " + " ".join(f"{count:5}" for count in row))
