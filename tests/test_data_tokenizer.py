"""Vocabularies and tokenisers: there and back, what is unknown, files, and the subwords of BERT and GPT-2."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import nn
from minidl.data import (
    BPETokenizer,
    CharTokenizer,
    Corpus,
    SubwordTokenizer,
    Vocabulary,
    WordPieceTokenizer,
    WordTokenizer,
    pad_sequences,
)
from minidl.errors import DataNotFoundError, FileFormatError, ShapeError

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("tokenizers.json").read_text(encoding="utf-8"))
SENTENCES = ["the cat sat", "the dog sat", "a cat"]
words = st.lists(st.text("abc", min_size=1, max_size=3), max_size=30)


@settings(max_examples=60, deadline=None)
@given(sequences=st.lists(words, max_size=5), least=st.integers(1, 4), size=st.none() | st.integers(3, 12))
def test_a_vocabulary_keeps_the_most_frequent(sequences, least, size):
    vocabulary = Vocabulary.build(sequences, least, size, specials=["<cls>"])
    assert vocabulary.tokens[:3] == ["<pad>", "<unk>", "<cls>"] and size in (None, max(len(vocabulary), size or 0))
    counts = Counter(token for sequence in sequences for token in sequence)
    kept = vocabulary.tokens[3:]
    assert kept == sorted(kept, key=lambda token: (-counts[token], token)) and all(counts[t] >= least for t in kept)
    left = [counts[token] for token in counts if token not in vocabulary]
    if size is None or len(vocabulary) < size:
        assert all(count < least for count in left)
    elif kept:
        assert max(left, default=0) <= counts[kept[-1]]
    for sequence in sequences:
        ids = vocabulary.lookup_indices(sequence)
        known = [token if token in vocabulary else "<unk>" for token in sequence]
        assert vocabulary.lookup_tokens(ids) == known and ids == [vocabulary[token] for token in sequence]


def test_special_tokens_and_what_is_not_there():
    vocabulary = Vocabulary(["b", "a"], specials=["<s>", "a"])
    assert vocabulary.tokens == ["<pad>", "<unk>", "<s>", "b", "a"] and (vocabulary.pad_id, vocabulary.unk_id) == (0, 1)
    assert vocabulary["z"] == 1 and "z" not in vocabulary and len(vocabulary) == 5
    bare = Vocabulary(["a", "b"], pad=None, unk=None)
    assert bare.tokens == ["a", "b"] and bare.pad_id is bare.unk_id is None
    with pytest.raises(KeyError, match="token 'aa' is not among the 2.*did you mean 'a'"):
        bare["aa"]
    with pytest.raises(ValueError, match="token 'z' at position 1 is not among the 2"):
        bare.lookup_indices(["a", "z"])
    for wrong in (2, -1):
        with pytest.raises(IndexError, match=rf"id {wrong} at position 1 lies outside the vocabulary of 2 tokens"):
            bare.lookup_tokens([0, wrong])
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Vocabulary(["a", "b", "a"])
    with pytest.raises(TypeError, match="got one string"):
        Vocabulary("abc")
    with pytest.raises(TypeError, match="7 among them"):
        Vocabulary(["a", 7])
    with pytest.raises(ValueError, match="max_size 1 has no room for the 2 special tokens"):
        Vocabulary.build([["a"]], max_size=1)


def test_a_vocabulary_that_does_not_fit_the_weights():
    vocabulary = Vocabulary(["a", "b"])
    vocabulary.check_weights(nn.Embedding(4, 3))
    vocabulary.check_weights(np.zeros((4, 3)))
    with pytest.raises(ShapeError, match=r"words: its weight has shape \(5, 3\), that is 5 rows, but the vocabulary "
                                         r"has 4 tokens, the last of them 'b'.*num_embeddings=4"):
        vocabulary.check_weights(nn.Embedding(5, 3), "words")


def test_a_vocabulary_is_saved_and_loaded(tmp_path):
    vocabulary = Vocabulary(["é", "\n", "日本", '"'], pad=None, unk="?", specials=["<s>"])
    vocabulary.save(tmp_path / "words.json")
    loaded = Vocabulary.load(tmp_path / "words.json")
    assert loaded == vocabulary and loaded.unk_id == 0 and loaded.specials == ("?", "<s>")
    assert vocabulary != Vocabulary(["é"]) and [path.name for path in tmp_path.iterdir()] == ["words.json"]
    with pytest.raises(OSError):
        vocabulary.save(tmp_path / "nowhere" / "words.json")


@pytest.mark.parametrize("content", [
    b"", b"[1]", b"\xff", b"{}", b'{"format": "minidl vocabulary 1"}', b"[" * 100_000,
    b'{"format": "minidl vocabulary 1", "tokens": ["a", "a"], "pad": null, "unk": null, "specials": []}',
    b'{"format": "minidl vocabulary 1", "tokens": ["a", 1], "pad": null, "unk": null, "specials": []}',
    b'{"format": "minidl vocabulary 1", "tokens": [["a"]], "pad": null, "unk": null, "specials": []}',
    b'{"format": "minidl vocabulary 1", "tokens": ["a"], "pad": "b", "unk": null, "specials": []}',
    b'{"format": "minidl vocabulary 1", "tokens": ["a"], "pad": ["b"], "unk": null, "specials": []}',
    b'{"format": "minidl vocabulary 1", "tokens": "abc", "pad": null, "unk": null, "specials": []}',
])
def test_what_is_no_vocabulary_is_refused(tmp_path, content):
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="words.json: no vocabulary saved by minidl"):
        Vocabulary.load(path)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_characters_there_and_back(text):
    tokenizer = CharTokenizer.train([text, "abc"])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer) == len({*text, *"abc"}) and tokenizer.vocabulary.tokens == sorted({*text, *"abc"})


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60), st.booleans())
def test_words_there_and_back(text, lower):
    tokenizer = WordTokenizer.train(text, lower=lower)
    ids = tokenizer.encode(text)
    decoded = tokenizer.decode(ids)
    assert tokenizer.encode(decoded) == ids and tokenizer.unk_id not in ids
    without_spaces = "".join((text.lower() if lower else text).split())
    assert "".join(decoded.split()) == without_spaces


def test_what_words_are():
    tokenizer = WordTokenizer.train(SENTENCES, min_frequency=2, specials=["<cls>"])
    assert tokenizer.vocabulary.tokens == ["<pad>", "<unk>", "<cls>", "cat", "sat", "the"]
    assert tokenizer.tokens("It's O’Neill's \"Cat\", isn't it?!") == [
        "it's", "o’neill's", '"', "cat", '"', ",", "isn't", "it", "?", "!"]
    numbers = WordTokenizer.train("call 0800 or 0900 on 25.11.", zero_digits=True)
    assert numbers.encode("0123") == numbers.encode("0800") != [numbers.unk_id]
    assert numbers.tokens("7 12:30") == ["0", "00", ":", "00"]
    assert WordTokenizer(tokenizer.vocabulary, lower=False).tokens("The CAT") == ["The", "CAT"]
    ids, lengths = pad_sequences(tokenizer.encode_batch(["The cat", "a cat sat!"]), tokenizer.pad_id)
    assert ids.tolist() == [[5, 3, 0, 0], [1, 3, 4, 1]] and lengths.tolist() == [2, 4]
    assert [tokenizer.decode(row) for row in ids] == ["the cat", "<unk> cat sat <unk>"]
    assert len(WordTokenizer.train(SENTENCES, max_size=4)) == 4


def test_characters_of_a_corpus_and_unknown_ones():
    tokenizer = CharTokenizer.train(Corpus("hello"))
    assert tokenizer.vocabulary.tokens == list("ehlo") and tokenizer.pad_id is None
    with pytest.raises(ValueError, match="token 'a' at position 1 is not among the 4"):
        tokenizer.encode("hallo")
    with pytest.raises(IndexError, match="id 4 at position 0"):
        tokenizer.decode(np.array([4]))
    assert CharTokenizer.train("ab", pad="<pad>", unk="?").encode("abc") == [2, 3, 1]


def test_tokenisers_are_saved_and_loaded(tmp_path):
    words = WordTokenizer.train(SENTENCES, lower=False, zero_digits=True)
    words.save(tmp_path / "words.json")
    loaded = WordTokenizer.load(tmp_path / "words.json")
    assert loaded.vocabulary == words.vocabulary and (loaded.lower, loaded.zero_digits) == (False, True)
    CharTokenizer.train("\n\tabc").save(tmp_path / "characters.json")
    assert CharTokenizer.load(tmp_path / "characters.json").encode("a\n") == [2, 1]
    with pytest.raises(FileFormatError, match="holds a tokeniser of the kind 'words', a CharTokenizer needs"):
        CharTokenizer.load(tmp_path / "words.json")
    content = json.loads((tmp_path / "words.json").read_text())
    for options in ({"lower": "yes", "zero_digits": True}, {"lower": True, "vocabulary": False}, {}, None):
        (tmp_path / "words.json").write_text(json.dumps({**content, "options": options}))
        with pytest.raises(FileFormatError, match="the options of a WordTokenizer"):
            WordTokenizer.load(tmp_path / "words.json")


@pytest.fixture
def library():
    return pytest.importorskip("tokenizers")


def files_of(folder, name):
    golden = GOLDEN[name]
    if name == "wordpiece":
        (folder / "vocab.txt").write_text("\n".join(golden["vocabulary"]) + "\n", encoding="utf-8")
    else:
        (folder / "vocab.json").write_text(json.dumps(golden["vocabulary"]), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(golden["merges"]), encoding="utf-8")
    return folder


@pytest.mark.parametrize("lower", [True, False])
def test_wordpieces_are_those_of_bert(library, tmp_path, lower):
    tokenizer = WordPieceTokenizer.load(files_of(tmp_path, "wordpiece") / "vocab.txt", lower=lower)
    expected = GOLDEN["wordpiece"]["lower" if lower else "cased"]
    assert tokenizer.encode_batch(GOLDEN["texts"]) == expected
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (WordPieceTokenizer.load(tmp_path), SubwordTokenizer.load(tmp_path / "tokenizer.json")):
        assert again.encode_batch(GOLDEN["texts"]) == expected and (again.pad_id, again.unk_id) == (0, 1)
    plain = [tokenizer.encode(text, special_tokens=False) for text in GOLDEN["texts"]]
    assert [[2, *ids, 3] for ids in plain] == expected
    short = tokenizer.encode(GOLDEN["texts"][6], max_length=6)
    assert short == [*expected[6][:5], 3] and tokenizer.encode(GOLDEN["texts"][6]) == expected[6]
    with pytest.raises(ValueError, match="max_length 2 leaves no room for text beside the 2 special tokens"):
        tokenizer.encode("a", max_length=2)


def test_byte_pairs_are_those_of_gpt2(library, tmp_path):
    tokenizer = BPETokenizer.load(files_of(tmp_path, "bpe"))
    ids = tokenizer.encode_batch(GOLDEN["texts"])
    assert ids == GOLDEN["bpe"]["ids"]
    assert [tokenizer.decode(each) for each in ids] == GOLDEN["texts"]


@pytest.fixture(scope="module")
def byte_pairs():
    pytest.importorskip("tokenizers")
    return BPETokenizer.train(SENTENCES * 3, vocab_size=268)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_byte_pairs_there_and_back(byte_pairs, text):
    assert byte_pairs.decode(byte_pairs.encode(text), skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def pieces():
    pytest.importorskip("tokenizers")
    return WordPieceTokenizer.train(SENTENCES * 3, vocab_size=26)


@settings(max_examples=40, deadline=None)
@given(chosen=st.lists(st.sampled_from(" ".join(SENTENCES).split()), max_size=12))
def test_pieces_there_and_back(pieces, chosen):
    text = " ".join(chosen)
    assert pieces.decode(pieces.encode(text)) == text
    assert pieces.encode(text.upper()) == pieces.encode(text)


def test_trained_subwords(library, tmp_path, byte_pairs):
    assert len(byte_pairs) == 268 and byte_pairs.pad_id == 0 and byte_pairs.token_to_id("<|endoftext|>") == 1
    pieces = WordPieceTokenizer.train(iter(SENTENCES * 3), vocab_size=60)
    assert pieces.tokens("The CAT") == ["[CLS]", "the", "cat", "[SEP]"]
    assert pieces.decode(pieces.encode("The CAT")) == "the cat"
    with pytest.raises(IndexError, match=rf"id {len(pieces)} at position 1 lies outside"):
        pieces.decode([0, len(pieces)])
    pieces.check_weights(nn.Embedding(len(pieces) + 3, 2))
    with pytest.raises(ShapeError, match=f"embedding: its weight.*the tokeniser has {len(pieces)} tokens"):
        pieces.check_weights(nn.Embedding(len(pieces) - 1, 2))
    pieces.backend.enable_padding(length=99)
    pieces.save(tmp_path / "tokenizer.json")
    assert len(WordPieceTokenizer.load(tmp_path).encode("cat")) == 3, "the file's own padding is switched off"


@pytest.mark.parametrize("kind, name, content, error", [
    (WordPieceTokenizer, "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\na\n", r"vocab.txt: .*this one has 4 lines, \[SEP\] not"),
    (WordPieceTokenizer, "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n", "occurs twice"),
    (WordPieceTokenizer, "vocab.txt", b"\xff", "byte 0 is not UTF-8"),
    (SubwordTokenizer, "tokenizer.json", b"{", "tokenizer.json: the tokenizers library refuses it"),
    (BPETokenizer, "tokenizer.json", b"{}", "tokenizer.json: the tokenizers library refuses it"),
    (BPETokenizer, "vocab.json", b"{", "vocab.json and merges.txt: the tokenizers library refuses them"),
])
def test_files_that_are_no_tokenisers(library, tmp_path, kind, name, content, error):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "merges.txt").write_bytes(b"")
    with pytest.raises(FileFormatError, match=error):
        kind.load(tmp_path)
    with pytest.raises(DataNotFoundError, match="no .*json"):
        kind.load(tmp_path.parent)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for train in (WordPieceTokenizer.train, BPETokenizer.train):
        with pytest.raises(ImportError, match=r"pip install 'minidl\[text\]'"):
            train(SENTENCES)
