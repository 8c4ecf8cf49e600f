"""Text data sets from files on this machine: rt-polarity, SMS spam, tinyshakespeare; nothing here uses the network.

Each is looked for in the folder `text/` of `root`, then of `MINIDL_DATA`, then of the user's cache folder (see
`places.py`), as `.gz` or plain; a tenth of each comes with minidl. What is found says in `source` where it came from
and in `complete` whether it is whole. None of them has official parts: `split` says how they are made here.
`download.py` fetches the files; `tokenizer.py` and `sequences.py` turn texts into batches of numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from minidl.data.files import Bounded, opened, read_up_to
from minidl.data.places import search
from minidl.data.texts import Corpus, TextDataset
from minidl.errors import DataNotFoundError, FileFormatError

FOLDER = "text"
LARGEST = 16 * 2**20  # bytes; the largest of these files has 1.1 million
SPLITS = {"train": 0, "validation": 1, "test": 2}
FRACTIONS = (0.8, 0.1, 0.1)
SIZES = {"rt_polarity": 10_662, "sms_spam": 5_574, "tinyshakespeare": 1_115_394}

Labelled = tuple[list[str], list[int], str]  # texts, labels, where they came from


def rt_polarity(split: str = "train", seed: int = 0, root: str | os.PathLike | None = None) -> TextDataset:
    """Sentences of film reviews, 5,331 negative (0) and 5,331 positive (1), tokenised and in lower case.

    split: "train" (80 %: 8,530), "validation" (10 %: 1,066), "test" (10 %: 1,066) or "all"; each class is dealt out
        in the order of a hash of `seed` and the text (`TextDataset.partition`), so the parts are the same everywhere
        and no sentence stands in two of them.
    root: a folder to search first; if given, the embedded subset does not stand in for missing files.
    Raises DataNotFoundError naming the places searched, FileFormatError for a damaged file.
    B. Pang and L. Lee, "Seeing stars" (ACL 2005); CC BY 4.0.
    """
    return _labelled("rt_polarity", ("negative", "positive"), _find_polarity, split, seed, root)


def sms_spam(split: str = "train", seed: int = 0, root: str | os.PathLike | None = None) -> TextDataset:
    """Text messages, 4,827 wanted ("ham", 0) and 747 unwanted ("spam", 1).

    Arguments, parts and errors as for `rt_polarity`. Many messages were sent several times; all copies of one are in
    the same part, since otherwise part of the test would be known from training.
    T. Almeida, J. M. Gomez Hidalgo and A. Yamakami, "Contributions to the study of SMS spam filtering" (2011);
    UCI Machine Learning Repository, CC BY 4.0.
    """
    return _labelled("sms_spam", ("ham", "spam"), _find_sms, split, seed, root)


def tinyshakespeare(split: str = "train", root: str | os.PathLike | None = None) -> Corpus:
    """1,115,394 characters of Shakespeare's plays, 65 of them distinct, compiled by A. Karpathy; public domain.

    split: "train" (the first 90 %), "validation" (the last 10 %) or "all". root and errors as for `rt_polarity`.
    """
    name = "tinyshakespeare"
    if split not in ("train", "validation", "all"):
        raise ValueError(f"{name}: split must be 'train', 'validation' or 'all', got {split!r}")
    read, title = search(name, FOLDER, lambda folder: _find_one(folder, "tinyshakespeare.txt"), "tinyshakespeare.txt",
                         root)
    text, file = read()
    border = int(0.9 * len(text))
    chosen = {"train": text[:border], "validation": text[border:], "all": text}[split]
    return Corpus(chosen, f"{name} {split}", f"{title}: {file}", len(text) == SIZES[name])


def _labelled(name: str, classes: tuple[str, str], find: Callable, split: str, seed: int,
              root: str | os.PathLike | None) -> TextDataset:
    if split not in (*SPLITS, "all"):
        raise ValueError(f"{name}: split must be 'train', 'validation', 'test' or 'all', got {split!r}")
    read, title = search(name, FOLDER, find, f"{name} files", root)
    texts, labels, files = read()
    complete = len(texts) == SIZES[name]
    whole = TextDataset(texts, labels, classes, f"{name} {split}", f"{title}: {files}", complete)
    if split == "all":
        return whole
    chosen = whole.partition(FRACTIONS, seed)[SPLITS[split]]
    chosen.complete = complete
    return chosen


def _find_one(folder: Path, name: str) -> Callable[[], tuple[str, Path]] | None:
    path = next((folder / each for each in (name, name + ".gz") if (folder / each).is_file()), None)
    return None if path is None else partial(_read, path)


def _find_polarity(folder: Path) -> Callable[[], Labelled] | None:
    names = ("rt-polarity.neg", "rt-polarity.pos")
    readers = [_find_one(folder, name) for name in names]
    if not any(readers):
        return None
    if missing := [name for name, reader in zip(names, readers) if reader is None]:
        raise DataNotFoundError(f"{folder} lacks {missing[0]} or the same with .gz; both {' and '.join(names)} are "
                                "needed")
    return partial(_read_polarity, readers)


def _read_polarity(readers: list[Any]) -> Labelled:
    texts: list[str] = []
    labels: list[int] = []
    paths = []
    for label, reader in enumerate(readers):
        content, path = reader()
        sentences = [line.strip() for line in _lines(content, path)]
        texts += sentences
        labels += [label] * len(sentences)
        paths.append(path)
    return texts, labels, f"{paths[0]} and {paths[1].name}"


def _find_sms(folder: Path) -> Callable[[], Labelled] | None:
    reader = _find_one(folder, "SMSSpamCollection")
    return None if reader is None else partial(_read_sms, reader)


def _read_sms(reader: Callable[[], tuple[str, Path]]) -> Labelled:
    content, path = reader()
    texts: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(_lines(content, path), 1):
        label, tab, text = line.partition("\t")
        if label not in ("ham", "spam") or not tab:
            raise FileFormatError(f"{path}: line {number} must be 'ham' or 'spam', a tab and the message; it begins "
                                  f"with {line[:40]!r}")
        texts.append(text)
        labels.append(int(label == "spam"))
    return texts, labels, str(path)


def _lines(content: str, path: Path) -> list[str]:
    """The lines, none of them empty but what follows the last line break."""
    lines = content.replace("\r\n", "\n").removesuffix("\n").split("\n")
    empty = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if empty is not None:
        raise FileFormatError(f"{path}: line {empty} is empty; one text a line is expected")
    return lines


def _read(path: Path) -> tuple[str, Path]:
    with opened(path) as stream:
        content = read_up_to(Bounded(stream, LARGEST, path), LARGEST + 1)
    try:
        return content.decode("utf-8"), path
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: byte {error.start:,} is not UTF-8; the files of some archives are in "
                              "Windows-1252: convert them with `iconv -f WINDOWS-1252 -t UTF-8`") from error
