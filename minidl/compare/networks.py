"""Where the trained network of a comparison comes from, and the networks that the methods start with.

`scratch`, `carried`, `frozen_body` and `rebuilt` are the starting points; `minidl demo` uses them too. A `Source` is
a file of trained weights and the architecture that they belong to.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from minidl import nn, transfer
from minidl.errors import ShapeError
from minidl.models import create_model
from minidl.models.weights import WEIGHTS
from minidl.nn.module import Module
from minidl.tensor import Tensor, no_grad

ANY_CHANNELS = ("mnist_cnn", "cifar_cnn", "lenet5")  # architectures that can be made for grey and for colour images
SIZES = (28, 32, 224, 299)  # rows and columns tried in turn, if a network does not take the target's


class Source:
    """Trained weights and their architecture; `load` reads them anew at each call.

    given: a file of a model, or a name of known weights ("resnet20-cifar10"); None for a network that is trained here,
    until `given` names its file. model: the architecture by its name in the zoo, None if the file says it.
    channels: of the images that a network trained here will see.
    """

    def __init__(self, given: str | None, model: str | None, channels: int = 3):
        self.given, self.model = given, model
        if given in WEIGHTS:
            if model not in (None, WEIGHTS[given].model):
                raise ValueError(f"the weights {given} are those of {WEIGHTS[given].model}, not of {model}")
            self.model = WEIGHTS[given].model
        elif given is None and model is None:
            raise ValueError("a source that is trained here needs an architecture")
        self.options: dict[str, Any] = {"in_channels": channels} if given is None and model in ANY_CHANNELS else {}

    def load(self) -> Module:
        """The trained network."""
        if self.given is None:
            raise ValueError("the source is loaded before it was trained")
        if self.model is None:
            return transfer.load(self.given)
        return create_model(self.model, pretrained=self.given, **self.options)

    def fresh(self, num_classes: int) -> Module:
        """The architecture with fresh weights and a head for so many classes."""
        if self.model is None:
            return rebuilt(self.load(), num_classes)
        return create_model(self.model, num_classes, **self.options)


def carried(model: Module, num_classes: int) -> Module:
    """The trained network with a fresh head."""
    return transfer.rehead(model, num_classes)


def frozen_body(model: Module, num_classes: int) -> tuple[Module, str, str | None]:
    """The trained network, frozen, with a fresh head that is not; the path of that, and of what it is given.

    The last is for `transfer.compute_features`, and None stands for the input of the head, as it does there.

    A network that consists of "features", which are flat, and "classifier" gets a single dense layer instead of the
    whole classifier, as its authors cut it; others get a fresh last layer.
    """
    children = dict(model.named_children())
    if list(children) == ["features", "classifier"] and isinstance(model, nn.Sequential) and _is_flat(model):
        transfer.freeze(model, "features")
        model.classifier = nn.Linear(_first_inputs(children["classifier"]), num_classes)
        return model, "classifier", "features"
    path = transfer.head_path(model)
    transfer.freeze(transfer.rehead(model, num_classes))
    transfer.unfreeze(model, path)
    return model, path, None


def _is_flat(model: Module) -> bool:
    """Whether the features are flattened and go into a dense layer first."""
    *_, last = model.features.children()
    return isinstance(last, nn.Flatten) and _first_inputs(model.classifier) > 0


def _first_inputs(classifier: Module) -> int:
    first = next((layer for layer in classifier.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))), None)
    return first.in_features if isinstance(first, nn.Linear) else 0


def rebuilt(model: Module, num_classes: int) -> Module:
    """The architecture of the trained network, written down as JSON and built again: fresh weights everywhere."""
    twin = transfer.build(json.dumps(transfer.structure(model)))
    head = twin.get_submodule(transfer.head_path(twin))
    return twin if head.weight.shape[0] == num_classes else transfer.rehead(twin, num_classes)


def channels_of(model: Module) -> int:
    """How many channels the network's images have: those of its first convolution.

    Raises ValueError for a network without one.
    """
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None:
        raise ValueError(f"this {type(model).__name__} has no convolution, so it is no network for images")
    return first.in_channels


def size_for(model: Module, wanted: tuple[int, int], asked: int | None = None) -> tuple[int, int]:
    """Rows and columns of the images that the network is given.

    asked: the size that the user wants. Else it is what the network's file says ("size" of its preprocessing), or the
    size of the target's images if the network runs on that, or the first of SIZES that it runs on.
    Raises ShapeError, with the network's own complaint, if it runs on none of them.
    """
    noted = (getattr(model, "preprocessing", None) or {}).get("size")
    if asked is not None:
        candidates = [(asked, asked)]
    elif isinstance(noted, list) and len(noted) == 2 and all(type(rows) is int and rows > 0 for rows in noted):
        candidates = [tuple(noted)]
    else:
        candidates = [wanted, *((rows, rows) for rows in SIZES)]
    complaint = ""
    for size in candidates:
        image = Tensor(np.zeros((2, channels_of(model), *size), np.float32))
        try:
            with no_grad():
                model.eval()(image)
            return size
        except ValueError as error:
            complaint = str(error)
    raise ShapeError(f"this {type(model).__name__} does not run on images of "
                     f"{' or '.join(f'{rows}x{columns}' for rows, columns in candidates)}: {complaint}")


def describe(source: str | Path) -> str:
    """What a source is called in tables: the name of a data set or of weights, or the name of a file."""
    return Path(source).name if os.path.exists(source) else str(source)
