"""The fuzzer: reads mutated files of a kind and says what a file led to that none may lead to.

Whatever the bytes, the reader returns, or raises FileFormatError, or LoadError for what does not fit a model; it takes
bounded time and memory; and a model that was to be filled is as it was if the reader raised. A file can be made again
from its kind and its number: `PYTHONPATH=tests:. python tests/fuzzing.py KIND FIRST COUNT [FILE]`.
"""

import faulthandler
import hashlib
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
from fuzz_kinds import kinds
from fuzz_mutations import choose, mutate

from minidl import FileFormatError
from minidl.transfer import LoadError

SECONDS = 2.0  # of this thread's processor time, for a file of at most 256 KiB
STUCK = 60.0  # seconds after which the process ends and shows where it is
TRACED = 5  # memory is watched for one file in so many, since that takes most of the time
LONGEST_MESSAGE = 8_000
FACTOR, CONSTANT = 100, 40 * 2**20  # memory: the ONNX reader's factor; twice the 16 MiB that any file may unpack to


def state(model):
    """A hash of everything that a failed load must leave alone."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(f"{name} {value.dtype} {value.shape} {value.requires_grad}".encode() + value.numpy().tobytes())
    for path, module in model.named_modules():
        found.update(f"{path} {type(module)} {module.training} {module.frozen} {sorted(vars(module))}".encode())
    return found.digest()


def content(kind, number):
    """The mutated file of that number."""
    rng = np.random.default_rng([zlib.crc32(kind.name.encode()), number])
    return mutate(rng, kind.seeds, choose(kind.formats))


def prepared(kind, folder):
    """Where the file goes; what belongs beside it is put there."""
    path = folder / kind.name
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, data in kind.also.items():
        (path.parent / name).write_bytes(data)
    return path


def outcome(kind, path, model):
    """"" if the file was read or refused as it should be, else what is wrong, and whether it was read."""
    before, began = tracemalloc.get_traced_memory()[0], time.thread_time()
    wrong, read = "", False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            kind.read(path, model)
            read = True
        except (FileFormatError, LoadError) as error:
            text = str(error)
            if len(text) > LONGEST_MESSAGE:
                wrong = f"a message of {len(text):,} characters"
            elif text != text.encode("utf-8", "replace").decode():
                wrong = "a message that cannot be printed"
        except BaseException:
            wrong = traceback.format_exc()
    seconds, peak = time.thread_time() - began, tracemalloc.get_traced_memory()[1] - before
    strange = [str(warning.message) for warning in caught if not str(warning.message).startswith("load: ")]
    if strange:
        wrong = wrong or f"a warning: {strange[0]}"
    if seconds > SECONDS:
        wrong = wrong or f"{seconds:.1f} seconds"
    if peak > CONSTANT + FACTOR * path.stat().st_size:
        wrong = wrong or f"{peak:,} bytes of memory for a file of {path.stat().st_size:,}"
    return wrong, read


def fuzz(kind, folder, numbers, most=5):
    """Reads the files of these numbers; returns {number: what is wrong} for the first few, and how many were read."""
    path, model = prepared(kind, folder), kind.model()
    before = None if model is None else state(model)
    wrong, read = {}, 0
    try:
        for number in numbers:
            path.write_bytes(content(kind, number))
            faulthandler.dump_traceback_later(STUCK, exit=True)
            if number % TRACED == 0:
                tracemalloc.start()
            problem, was_read = outcome(kind, path, model)
            tracemalloc.stop()
            read += was_read
            if was_read:
                model = kind.model()
            elif model is not None and state(model) != before:
                problem = problem or "the model was changed, and an error raised"
                model = kind.model()
            if problem:
                wrong[number] = problem
                if len(wrong) >= most:
                    break
    finally:
        faulthandler.cancel_dump_traceback_later()
        tracemalloc.stop()
    return wrong, read


def told(kind, wrong):
    """A message that says how to see each of these again."""
    return "\n".join(f"python tests/fuzzing.py '{kind.name}' {number} 1: {what}" for number, what in wrong.items())


def main(name, first, count, keep=None):
    with tempfile.TemporaryDirectory() as folder:
        known = kinds(Path(folder))
        for kind in (kind for kind in known.values() if name in ("all", kind.name) or name in kind.name.split(".")):
            began = time.perf_counter()
            wrong, read = fuzz(kind, Path(folder) / "fuzz", range(int(first), int(first) + int(count)), most=20)
            print(f"{kind.name}: {read:,} of {int(count):,} read, {len(wrong)} wrong, "
                  f"{time.perf_counter() - began:.1f} s", told(kind, wrong), sep="\n", flush=True)
            if keep:
                Path(keep).write_bytes(content(kind, int(first)))


if __name__ == "__main__":
    main(*sys.argv[1:])
