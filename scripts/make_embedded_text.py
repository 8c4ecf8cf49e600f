"""Make the tenth of the text data that comes with minidl, from the complete files.

    python scripts/make_embedded_text.py FOLDER

FOLDER holds `text/` with the files that `minidl.data.text` names. A tenth of the sentences and messages of each class
is drawn as `TextDataset.partition` draws, and the first tenth of tinyshakespeare is taken; they are written under the
same names and in the same format, gzipped, into minidl/data/embedded/text/. `tests/test_data_text.py` checks that every
embedded text is one of the official ones.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

from minidl.data.places import EMBEDDED
from minidl.data.text import FOLDER, rt_polarity, sms_spam, tinyshakespeare
from minidl.data.texts import TextDataset

SEED = 20240
PART = (0.1, 0.9)


def write(name: str, text: str) -> None:
    """Write a gzipped file whose bytes do not depend on the time or the file's name."""
    folder = EMBEDDED / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def a_tenth(dataset: TextDataset) -> TextDataset:
    assert dataset.complete, f"{dataset} is not complete"
    return dataset.partition(PART, SEED)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the part of the text data that comes with minidl.")
    parser.add_argument("folder", type=Path, help="the folder with text/")
    root = parser.parse_args().folder
    sentences = a_tenth(rt_polarity("all", root=root))
    for label, name in enumerate(("rt-polarity.neg", "rt-polarity.pos")):
        write(name, "".join(f"{text} \n" for text, own in sentences if own == label))
    messages = a_tenth(sms_spam("all", root=root))
    write("SMSSpamCollection", "".join(f"{messages.classes[label]}\t{text}\n" for text, label in messages))
    plays = tinyshakespeare("all", root=root)
    assert plays.complete, f"{plays!r} is not complete"
    write("tinyshakespeare.txt", plays.text[: len(plays) // 10])
    files = sorted((EMBEDDED / FOLDER).glob("*.gz"))
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files):,} bytes in {EMBEDDED / FOLDER}")


if __name__ == "__main__":
    main()
