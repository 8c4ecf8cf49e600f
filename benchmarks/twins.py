"""Networks and training steps whose one source text runs under minidl and under PyTorch.

`Library` holds the modules of one of the two under PyTorch's names; a network is a function of its `nn`. Both sides
get the same initial weights (`twin`) and the same batches. Read next: training.py.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np


class Library(NamedTuple):
    """minidl or PyTorch: the module itself (named `torch` in scripts) and its parts."""

    name: str
    torch: Any
    nn: Any
    F: Any
    optim: Any

    def tensor(self, array: np.ndarray, requires_grad: bool = False) -> Any:
        """A tensor with a copy of `array`."""
        tensor = self.torch.from_numpy(array.copy())
        return tensor.requires_grad_() if requires_grad else tensor


def library(name: str) -> Library:
    """The library "minidl" or "torch"."""
    parts = [import_module(f"{name}.{part}") for part in ("nn", "nn.functional", "optim")]
    return Library(name, import_module(name), *parts)


def mlp(lib: Library) -> Any:
    """784-128-64-10 with ReLU, for x (N, 784)."""
    nn = lib.nn
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn28(lib: Library) -> Any:
    """The lesson's network for x (N, 1, 28, 28): conv 32, pool, conv 64, pool, dense 64, dense 10."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10),
    )


def cnn32(lib: Library) -> Any:
    """The lesson's network for x (N, 3, 32, 32): conv 32, pool, conv 64, pool, conv 64, dense 64, dense 10."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10),
    )


def vgg16(lib: Library) -> Any:
    """VGG16's features with a head 25088-1024-10 for x (N, 3, 224, 224) (Simonyan and Zisserman 2015)."""
    nn, layers, channels = lib.nn, [], 3
    for outputs in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if outputs:
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
            channels = outputs
        else:
            layers.append(nn.MaxPool2d(2))
    head = nn.Sequential(nn.Flatten(), nn.Linear(512 * 7 * 7, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return nn.Sequential(nn.Sequential(*layers), head)


def frozen_vgg16(lib: Library) -> Any:
    """`vgg16` whose convolutions are frozen: only the head learns."""
    model = vgg16(lib)
    if lib.name == "minidl":
        lib.torch.freeze(model, model[0])
    else:
        model[0].requires_grad_(False)
    return model


def resnet18(lib: Library) -> Any:
    """ResNet-18 with 10 classes for x (N, 3, H, W) (He et al. 2016)."""
    nn, F = lib.nn, lib.F

    class Block(nn.Module):
        def __init__(self, channels: int, outputs: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Identity() if stride == 1 and channels == outputs else nn.Sequential(
                nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = F.relu(self.bn1(self.conv1(x)))
            return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    blocks, channels = [], 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(channels, outputs, stride), Block(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )


class Task(NamedTuple):
    """A network, its input's shape (N, …), its optimiser, and what is measured only when there is time.

    vocabulary: inputs are integers below it, if it is not 0. warm: a small task that loads all that this one needs.
    """

    name: str
    network: Callable[[Library], Any]
    shape: tuple[int, ...]
    optimizer: str = "Adam"
    lr: float = 1e-3
    slow: bool = False
    vocabulary: int = 0
    warm: Any = None


TASKS = (
    Task("MLP 784-128-64-10, batch 32", mlp, (32, 784)),
    Task("MLP 784-128-64-10, batch 64", mlp, (64, 784)),
    Task("CNN 1x28x28, batch 32", cnn28, (32, 1, 28, 28)),
    Task("CNN 1x28x28, batch 64", cnn28, (64, 1, 28, 28)),
    Task("CNN 3x32x32, batch 32", cnn32, (32, 3, 32, 32)),
    Task("CNN 3x32x32, batch 64", cnn32, (64, 3, 32, 32)),
    Task("ResNet-18 3x64x64, batch 16", resnet18, (16, 3, 64, 64), "SGD", 1e-2),
    Task("VGG16 3x224x224, batch 8", vgg16, (8, 3, 224, 224), "SGD", 1e-3, slow=True),
    Task("VGG16 frozen body 3x224x224, batch 8", frozen_vgg16, (8, 3, 224, 224), "SGD", 1e-3, slow=True),
)


def batch(task: Task, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random batch: inputs of `task.shape`, numbers or words, and labels (N,) of ten classes."""
    if task.vocabulary:
        inputs = generator.integers(0, task.vocabulary, task.shape)
    else:
        inputs = generator.standard_normal(task.shape, np.float32)
    return inputs, generator.integers(0, 10, task.shape[0])


def twin(model: Any, task: Task, lib: Library) -> Any:
    """The task's network in another library, with the weights of minidl's `model`."""
    other = task.network(lib)
    other.load_state_dict({name: lib.tensor(tensor.detach().numpy()) for name, tensor in model.state_dict().items()})
    return other


def training_step(model: Any, task: Task, lib: Library, data: tuple[np.ndarray, np.ndarray]) -> Callable[[], float]:
    """A function that makes one step (gradients to zero, forward, cross-entropy, backward, update): the loss."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = getattr(lib.optim, task.optimizer)(parameters, lr=task.lr)
    x, labels = lib.tensor(data[0]), lib.tensor(data[1])

    def step() -> float:
        optimizer.zero_grad()
        loss = lib.F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
