"""Promise 4 under fire: thousands of damaged files of every kind that is read, each one refused or read, nothing else.

What is asserted stands in `fuzzing.py`; a failure names the command that makes the file again.
"""

import pytest
from fuzz_kinds import NAMES, kinds
from fuzzing import fuzz, prepared, told

from minidl.transfer import LoadError


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return kinds(tmp_path_factory.mktemp("seeds"))


def check(known, name, folder, numbers):
    if name not in known:
        pytest.skip("the tokenizers library is not installed")
    wrong, read = fuzz(known[name], folder, numbers)
    assert not wrong, told(known[name], wrong)
    assert read < len(numbers)


def test_every_kind_is_tried(known):
    assert list(known) in ([*NAMES], [*NAMES[:-3]])  # the last three need the tokenizers library


@pytest.mark.parametrize("name", NAMES)
def test_the_sound_files_are_read(known, name, tmp_path):
    if name not in known:
        pytest.skip("the tokenizers library is not installed")
    kind = known[name]
    path = prepared(kind, tmp_path)
    path.write_bytes(kind.seeds[0])
    try:
        kind.read(path, kind.model())
    except LoadError:  # a file of another network than the one that is filled
        assert kind.model() is not None


@pytest.mark.parametrize("name", NAMES)
def test_promise_4_300_mutations_are_refused_or_read_and_nothing_else(known, name, tmp_path):
    check(known, name, tmp_path, range(300))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_promise_4_10_000_mutations_are_refused_or_read_and_nothing_else(known, name, tmp_path):
    check(known, name, tmp_path, range(300, 10_300))
