"""The text sets: what is known of the official data, the embedded part, how parts are made, files that are wrong."""

import gzip
import hashlib
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import Corpus, DataLoader, TextDataset, rt_polarity, sms_spam, tinyshakespeare
from minidl.errors import DataNotFoundError, FileFormatError, ShapeError

OFFICIAL = os.environ.get("MINIDL_DATA")
needs_official = pytest.mark.skipif(not OFFICIAL, reason="MINIDL_DATA is not set")
LABELLED = [rt_polarity, sms_spam]
PARTS = ["train", "validation", "test"]


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No MINIDL_DATA and an empty cache folder."""
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@needs_official
@pytest.mark.parametrize("load, counts, first, last", [
    (rt_polarity, [5331, 5331], "simplistic , silly and tedious .",
     "provides a porthole into that noble , trembling incoherence that defines us all ."),
    (sms_spam, [4827, 747], "Go until jurong point, crazy..", "Rofl. Its true to its name"),
])
def test_the_official_texts_are_what_is_known_of_them(load, counts, first, last):
    dataset = load("all")
    assert dataset.complete and np.bincount(dataset.labels).tolist() == counts
    assert dataset.texts[0].startswith(first) and dataset.texts[-1] == last
    parts = [load(part) for part in PARTS]
    assert all(part.complete for part in parts)
    assert [len(part) for part in parts] == {rt_polarity: [8530, 1066, 1066], sms_spam: [4460, 557, 557]}[load]


@needs_official
def test_the_official_shakespeare():
    whole = tinyshakespeare("all")
    assert whole.complete and len(whole) == 1_115_394 and len(set(whole.text)) == 65
    assert str(whole).startswith("First Citizen:\n") and whole.text.endswith("\nWhiles thou art waking.\n")
    digest = hashlib.sha256(whole.text.encode()).hexdigest()
    assert digest == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert tinyshakespeare("train").text + tinyshakespeare("validation").text == whole.text
    assert len(tinyshakespeare("validation")) == 111_540


@needs_official
def test_the_embedded_texts_are_some_of_the_official_ones(nowhere, monkeypatch):
    embedded = [load("all") for load in LABELLED] + [tinyshakespeare("all")]
    monkeypatch.setenv("MINIDL_DATA", OFFICIAL)
    for part, load in zip(embedded, LABELLED):
        assert set(zip(part.texts, part.labels)) <= set(zip(load("all").texts, load("all").labels))
    assert tinyshakespeare("all").text.startswith(embedded[2].text)


@pytest.mark.parametrize("load, counts", [(rt_polarity, [533, 533]), (sms_spam, [482, 75])])
def test_the_embedded_part_says_what_it_is(nowhere, load, counts):
    dataset = load("all")
    assert not dataset.complete and "embedded subset" in dataset.source
    np.testing.assert_allclose(np.bincount(dataset.labels), counts, atol=1)
    parts = [load(part) for part in PARTS]
    assert sorted(text for part in parts for text in part.texts) == sorted(dataset.texts)
    for part, fraction in zip(parts, (0.8, 0.1, 0.1)):
        np.testing.assert_allclose(np.bincount(part.labels), np.multiply(counts, fraction), atol=2)
    assert load("test").texts == parts[2].texts != load("test", seed=1).texts


def test_the_embedded_plays(nowhere):
    whole = tinyshakespeare("all")
    assert not whole.complete and len(whole) == 111_539
    assert repr(tinyshakespeare("train")).startswith("Corpus(tinyshakespeare train: 100,385 characters, a part, from ")


@pytest.mark.parametrize("load, split, message", [
    (rt_polarity, "dev", "rt_polarity: split must be 'train', 'validation', 'test' or 'all', got 'dev'"),
    (sms_spam, "", "sms_spam: split must be"),
    (tinyshakespeare, "test", "split must be 'train', 'validation' or 'all', got 'test'"),
])
def test_an_unknown_split(nowhere, load, split, message):
    with pytest.raises(ValueError, match=message):
        load(split)


@pytest.mark.parametrize("load", [*LABELLED, tinyshakespeare])
def test_missing_files_say_where_they_go(nowhere, load):
    with pytest.raises(DataNotFoundError) as raised:
        load(root=nowhere)
    for phrase in (load.__name__, str(nowhere / "text"), f"minidl data get {load.__name__}"):
        assert phrase in str(raised.value)


def folder_with(path, **files):
    (path / "text").mkdir()
    for name, content in files.items():
        (path / "text" / name).write_bytes(content)
    return path


def test_files_are_read_compressed_and_plain(tmp_path):
    files = {"rt-polarity.neg": b"bad \nworse \n", "rt-polarity.pos.gz": gzip.compress("très bon \n".encode()),
             "SMSSpamCollection": b"ham\tHi\tyou\r\nspam\tWIN\r\n"}
    root = folder_with(tmp_path, **files)
    assert list(rt_polarity("all", root=root)) == [("bad", 0), ("worse", 0), ("très bon", 1)]
    assert list(sms_spam("all", root=root)) == [("Hi\tyou", 0), ("WIN", 1)]


@pytest.mark.parametrize("load, files, error, message", [
    (rt_polarity, {"rt-polarity.neg": b"bad\n"}, DataNotFoundError, "lacks rt-polarity.pos or the same with .gz"),
    (rt_polarity, {"rt-polarity.neg": b"bad\n", "rt-polarity.pos": b"good\n\nbetter\n"}, FileFormatError,
     "rt-polarity.pos: line 2 is empty"),
    (rt_polarity, {"rt-polarity.neg": b"bad\n", "rt-polarity.pos": b"caf\xe9\n"}, FileFormatError,
     "rt-polarity.pos: byte 3 is not UTF-8.*iconv"),
    (sms_spam, {"SMSSpamCollection": b""}, FileFormatError, "line 1 is empty"),
    (sms_spam, {"SMSSpamCollection": b"ham\tHi\neggs\tHo\n"}, FileFormatError, "line 2 must be 'ham' or 'spam'.*eggs"),
    (sms_spam, {"SMSSpamCollection": b"ham Hi\n"}, FileFormatError, "line 1 must be"),
    (sms_spam, {"SMSSpamCollection.gz": gzip.compress(b"ham\tHi\n" * 900)[:-9]}, FileFormatError, "truncated gzip"),
    (tinyshakespeare, {"tinyshakespeare.txt.gz": gzip.compress(bytes(2**24 + 1), 1)}, FileFormatError,
     "unpacks to more than 16,777,216 bytes"),
])
def test_damaged_files_are_refused(tmp_path, load, files, error, message):
    with pytest.raises(error, match=message):
        load(root=folder_with(tmp_path, **files))


def letters(count):
    return TextDataset([f"text {i}" for i in range(count)], np.arange(count) % 2, "ab")


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 1)), min_size=1, max_size=40),
       cut=st.floats(0, 1), seed=st.integers(0, 3))
def test_a_partition_holds_each_text_once_and_no_text_twice(texts, cut, seed):
    dataset = TextDataset([text for text, _ in texts], [label for _, label in texts], ["0", "1"])
    parts = dataset.partition((cut, 1 - cut), seed)
    pairs = [list(zip(part.texts, part.labels.tolist())) for part in parts]
    assert sorted(pairs[0] + pairs[1]) == sorted(texts)
    assert not set(pairs[0]) & set(pairs[1])


def test_a_partition_keeps_the_shares_and_depends_on_the_seed():
    dataset = letters(1000)
    parts = dataset.partition((0.5, 0.3, 0.2))
    assert [np.bincount(part.labels).tolist() for part in parts] == [[250, 250], [150, 150], [100, 100]]
    assert [int(text[5:]) for text in parts[0].texts] == sorted(int(text[5:]) for text in parts[0].texts)
    # the order is that of the SHA-256 of seed and text: another one would change every published figure
    firsts = sorted(range(0, 1000, 2), key=lambda i: hashlib.sha256(f"0\ntext {i}".encode()).digest())[:3]
    assert {f"text {i}" for i in firsts} < set(parts[0].texts)
    assert dataset.partition((0.5, 0.5), 1)[0].texts != dataset.partition((0.5, 0.5), 2)[0].texts
    shuffled = dataset.select(np.random.default_rng(0).permutation(1000))
    assert set(shuffled.partition((0.5, 0.5))[0].texts) == set(dataset.partition((0.5, 0.5))[0].texts)
    for wrong in ((0.5, 0.4), (1.5, -0.5)):
        with pytest.raises(ValueError, match="add up to 1"):
            dataset.partition(wrong)


def test_a_text_data_set_and_its_batches():
    dataset = letters(6)
    texts, labels = next(iter(DataLoader(dataset, 3)))
    assert texts == ["text 0", "text 1", "text 2"] and labels.array.tolist() == [0, 1, 0]
    few = dataset.balanced(4, np.random.default_rng(0))
    assert np.bincount(few.labels).tolist() == [2, 2] and not few.complete
    training, validation = dataset.split(0.34, np.random.default_rng(0))
    assert len(training) == 4 and len(validation) == 2
    assert repr(dataset) == "TextDataset(texts: 6 texts, from memory)"
    assert len(Corpus("abc")) == 3
    with pytest.raises(ValueError, match="8 balanced texts need 4 of class 0"):
        dataset.balanced(8)
    with pytest.raises(TypeError, match="got one string"):
        TextDataset("abc", [0, 0, 0], "a")
    with pytest.raises(TypeError, match="text 1 is a bytes"):
        TextDataset(["a", b"b"], [0, 0], "a")
    with pytest.raises(ShapeError, match=r"2 texts need labels of shape \(2,\), got \(1,\)"):
        TextDataset(["a", "b"], [0], "a")
    with pytest.raises(ValueError, match="label 2 of text 1 is outside 0..1"):
        TextDataset(["a", "b"], [0, 2], "ab")
