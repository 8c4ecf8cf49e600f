"""`minidl certify run.json` and `minidl replay run.json`: a training that a file describes, its certificate, and
whether the same training somewhere else is the same to the last bit.

The file names a data set, a model of the zoo and an optimiser from closed tables; it holds numbers, and nothing in it
is executed. `certify` writes the certificate (`minidl/train/certificate.py`) into the same file; `replay` trains again
and stops at the first step that differs. `EXAMPLE` is such a file, `OPTIONAL` what else may stand in it.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from minidl import nn, optim, random
from minidl.atomic import write_text
from minidl.data import Compose, DataLoader, RandomCrop, RandomHorizontalFlip, cifar10, fashion_mnist, mnist
from minidl.data.places import EMBEDDED
from minidl.errors import FileFormatError, did_you_mean
from minidl.models import create_model, list_models
from minidl.train import Certificate, RunsDiffer, Trainer
from minidl.train.certificate import checked, first_difference, read_certificate, read_json

EXAMPLE = """{"data": "mnist", "subset": 2000, "model": "lenet5",
 "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.9}, "epochs": 1, "batch_size": 64, "seed": 0}"""
DATA = {"mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10}
OPTIMIZERS = {"SGD": optim.SGD, "Adam": optim.Adam, "AdamW": optim.AdamW, "RMSprop": optim.RMSprop}
NO_OPTIONS = ("params", "foreach", "fused", "capturable")
CLASSES = 10  # of all data sets above
LARGEST = 2**31
OPTIONAL: dict[str, Any] = {  # and their defaults
    "subset": None,  # images with equally many of each class; all if left out
    "embedded": False,  # only the images that come with minidl, the same on every machine
    "augment": False,  # random crops and mirror images
    "dropout": None,  # of models that take it
    "accumulate": 1, "clip_norm": None, "batch_size": 32, "epochs": 1, "seed": 0, "prefetch": False,
    "weights_every": 10,
}
REQUIRED = ("data", "model", "optimizer")


class Replay(NamedTuple):
    """The outcome of a replay: equal or not, and a sentence that says so."""

    equal: bool
    text: str


def certify(path: str | os.PathLike, force: bool = False) -> dict[str, Any]:
    """Do the training that the file describes and write its certificate into it, atomically; return the certificate.

    force: replace a certificate that is there. Raises ValueError if one is there otherwise, FileFormatError for a
    description with unknown names or values out of range.
    """
    content = read_json(path)
    described = experiment(content, os.fspath(path))
    if "certificate" in content and not force:
        raise ValueError(f"{os.fspath(path)} has a certificate: `minidl replay` compares with it, `minidl certify "
                         "--force` replaces it")
    certificate = Certificate(weights_every=described["weights_every"])
    _train(described, certificate)
    write_text(path, json.dumps({**content, "certificate": certificate.content}, indent=1, ensure_ascii=False) + "\n")
    return certificate.content


def replay(path: str | os.PathLike, other: str | os.PathLike | None = None) -> Replay:
    """Train again as the file says, until the end or the first step that differs from its certificate.

    other: compare with the certificate in this file instead of training; neither needs a description then.
    """
    before = read_certificate(path)
    if other is not None:
        now = read_certificate(other)
        difference = first_difference(before, now)
        return Replay(difference is None, _verdict(before, now) if difference is None else str(difference))
    content = read_json(path)
    if "data" not in content:
        raise ValueError(f"{os.fspath(path)} holds a certificate, but no description of a run: let the script that "
                         "wrote it run again with Certificate(…, against=…), or compare with a second file")
    described = experiment(content, os.fspath(path))
    certificate = Certificate(against=checked(before, os.fspath(path)), weights_every=described["weights_every"])
    try:
        _train(described, certificate)
    except RunsDiffer as error:
        return Replay(False, f"{error.difference}. The certificate comes from {before['machine']}, "
                             f"{before['threads']} threads; this is {certificate.content['machine']}, "
                             f"{certificate.content['threads']} threads")
    return Replay(True, _verdict(before, certificate.content))


def _verdict(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return (f"equal, bit for bit: {len(one['steps']):,} steps, chain {one['chain'][:16]}…, on {one['threads']} and "
            f"{other['threads']} threads")


def experiment(content: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The description of a run, checked and with its defaults; FileFormatError that says what is wrong."""
    known = {*REQUIRED, *OPTIONAL, "certificate"}
    for name in content:
        if name not in known:
            raise FileFormatError(f"{what}: unknown entry {name[:100]!r}{did_you_mean(name[:100], known)}")
    for name in REQUIRED:
        if name not in content:
            raise FileFormatError(f"{what}: '{name}' is missing; an example:\n{EXAMPLE}")
    given = {**OPTIONAL, **{name: value for name, value in content.items() if name != "certificate"}}
    for name, table in (("data", DATA), ("model", list_models())):
        if not isinstance(given[name], str) or given[name] not in table:
            raise FileFormatError(f"{what}: {name} must be one of {', '.join(table)}, not {str(given[name])[:100]!r}")
    for name in ("subset", "accumulate", "batch_size", "epochs", "seed", "weights_every"):
        least = 0 if name == "seed" else 1
        if given[name] is not None and not (type(given[name]) is int and least <= given[name] < LARGEST) or \
                given[name] is None and OPTIONAL[name] is not None:
            raise FileFormatError(f"{what}: {name} must be a whole number from {least}, not {str(given[name])[:100]!r}")
    for name in ("embedded", "augment", "prefetch"):
        if not isinstance(given[name], bool):
            raise FileFormatError(f"{what}: {name} must be true or false, not {str(given[name])[:100]!r}")
    for name in ("clip_norm", "dropout"):
        if given[name] is not None and not (type(given[name]) in (int, float) and 0 <= given[name] < LARGEST):
            raise FileFormatError(f"{what}: {name} must be a number from 0, not {str(given[name])[:100]!r}")
    _check_optimizer(given["optimizer"], what)
    return given


def _check_optimizer(entry: Any, what: str) -> None:
    if not isinstance(entry, dict) or entry.get("name") not in list(OPTIMIZERS):
        raise FileFormatError(f"{what}: optimizer must be an object with a name, one of {', '.join(OPTIMIZERS)}")
    options = [name for name in inspect.signature(OPTIMIZERS[entry["name"]]).parameters if name not in NO_OPTIONS]
    for name, value in entry.items():
        if name != "name" and name not in options:
            raise FileFormatError(f"{what}: {entry['name']} has no option {name[:100]!r}{did_you_mean(name, options)}")
        values = value if name == "betas" and isinstance(value, list) else [value]
        if name != "name" and not all(isinstance(number, (bool, int, float)) for number in values):
            raise FileFormatError(f"{what}: optimizer: {name} must be a number, not {str(value)[:100]!r}")


def _train(given: Mapping[str, Any], certificate: Certificate) -> None:
    """The run itself; minidl's shared generator, and with it every draw, begins at the seed."""
    transform = None
    if given["augment"]:
        size = 32 if given["data"] == "cifar10" else 28
        transform = Compose([RandomCrop(size, padding=2), RandomHorizontalFlip()])
    data = DATA[given["data"]]("train", subset=given["subset"], root=EMBEDDED if given["embedded"] else None,
                               transform=transform)
    random.seed(given["seed"])
    more = {} if given["dropout"] is None else {"dropout": given["dropout"]}
    model = create_model(given["model"], CLASSES, **more)
    options = {name: value for name, value in given["optimizer"].items() if name != "name"}
    optimizer = OPTIMIZERS[given["optimizer"]["name"]](model.named_parameters(), **options)
    loader = DataLoader(data, given["batch_size"], shuffle=True, num_workers=int(given["prefetch"]))
    Trainer(model, nn.CrossEntropyLoss(), optimizer).fit(
        loader, epochs=given["epochs"], accumulate=given["accumulate"], clip_norm=given["clip_norm"],
        callbacks=[certificate], progress=False)
