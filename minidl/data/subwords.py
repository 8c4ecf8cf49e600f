"""WordPiece and byte-pair encoding, through the `tokenizers` library (`pip install 'minidl[text]'`).

The classes here give that library's tokenisers the methods of those in `tokenizer.py`. They train on texts of one's own
or read the files of published models: `vocab.txt` (BERT), `vocab.json` with `merges.txt` (GPT-2), `tokenizer.json`.
Wu et al. 2016, "Google's neural machine translation system" (WordPiece); Sennrich, Haddow and Birch 2016, "Neural
machine translation of rare words with subword units" (BPE), on bytes as in Radford et al. 2019.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from minidl.atomic import write_text
from minidl.data.tokenizer import Texts, each_text
from minidl.errors import DataNotFoundError, FileFormatError, ShapeError

Kind = TypeVar("Kind", bound="SubwordTokenizer")
# All else that the library raises is about its file: plain Exception, or BaseException where its Rust code panics.
GOING_ON = (ImportError, MemoryError, KeyboardInterrupt, SystemExit)
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PADS, UNKS = ("[PAD]", "<pad>"), ("[UNK]", "<unk>")


class SubwordTokenizer:
    """A tokeniser of the `tokenizers` library, `backend`, under minidl's names.

    pad_id, unk_id: the ids of "[PAD]" or "<pad>", and "[UNK]" or "<unk>"; None if there is no such token.
    Padding and truncation that a file asks for are switched off: `pad_sequences` pads a batch, `max_length` cuts.
    """

    def __init__(self, backend: Any):
        if not hasattr(backend, "no_padding"):
            raise TypeError(f"{type(self).__name__}: a tokenizers.Tokenizer is needed, got {type(backend).__name__}; "
                            f"{type(self).__name__}.load(path) reads a tokenizer.json")
        self.backend = backend
        backend.no_padding()
        backend.no_truncation()
        self.pad_id = self._first_known(PADS)
        self.unk_id = self._first_known(UNKS)

    @classmethod
    def load(cls: type[Kind], path: str | os.PathLike) -> Kind:
        """The tokeniser of a `tokenizer.json`, or of a folder that holds one.

        Raises DataNotFoundError if there is no such file, FileFormatError if the library cannot make sense of it.
        """
        return cls(_from_json(_file_of(path, "tokenizer.json")[0]))

    def save(self, path: str | os.PathLike) -> None:
        """Write a `tokenizer.json`, atomically."""
        write_text(path, self.backend.to_str())

    def __len__(self) -> int:
        """How many tokens there are: the `num_embeddings` of an embedding for them."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, None if it is not among them."""
        return self.backend.token_to_id(token)

    def tokens(self, text: str, special_tokens: bool = True) -> list[str]:
        """The pieces of `text`, with what the tokeniser puts around it (BERT: [CLS] and [SEP])."""
        return self.backend.encode(text, add_special_tokens=special_tokens).tokens

    def encode(self, text: str, special_tokens: bool = True, max_length: int | None = None) -> list[int]:
        """The ids of `text`, special tokens around it included."""
        return self.encode_batch([text], special_tokens, max_length)[0]

    def encode_batch(self, texts: Iterable[str], special_tokens: bool = True,
                     max_length: int | None = None) -> list[list[int]]:
        """The ids of each text. max_length: longer texts lose tokens at their end, but not the special ones.

        Raises ValueError for a `max_length` that leaves no room for text.
        """
        if max_length is not None:
            around = self.backend.num_special_tokens_to_add(False) if special_tokens else 0
            if max_length <= around:
                raise ValueError(f"encode: max_length {max_length} leaves no room for text beside the {around} special "
                                 "tokens around it")
            self.backend.enable_truncation(max_length)
        try:
            found = self.backend.encode_batch(list(texts), add_special_tokens=special_tokens)
        finally:
            self.backend.no_truncation()
        return [encoding.ids for encoding in found]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of these ids. Raises IndexError, with its position, for an id outside the vocabulary."""
        numbers = [int(number) for number in ids]
        for position, number in enumerate(numbers):
            if not 0 <= number < len(self):
                raise IndexError(f"the id {number} at position {position} lies outside the vocabulary of {len(self):,} "
                                 f"tokens (0..{len(self) - 1})")
        return self.backend.decode(numbers, skip_special_tokens=skip_special_tokens)

    def check_weights(self, embedding: Any, name: str = "embedding") -> None:
        """Raise ShapeError if `embedding`, a layer or its table (V, D), has fewer rows than there are tokens.

        More are allowed: published tables are often filled up to a round number.
        """
        shape = tuple(getattr(embedding, "weight", embedding).shape)
        if not shape or shape[0] < len(self):
            raise ShapeError(f"{name}: its weight has shape {shape}, that is {shape[0] if shape else 0:,} rows, but "
                             f"the tokeniser has {len(self):,} tokens: load the tokeniser that belongs to these "
                             f"weights, or make the layer with num_embeddings={len(self)}")

    def _first_known(self, names: Sequence[str]) -> int | None:
        return next((number for name in names if (number := self.token_to_id(name)) is not None), None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} tokens)"


class WordPieceTokenizer(SubwordTokenizer):
    """BERT's tokeniser: words and signs, then the longest known pieces of each word; "[CLS] text [SEP]".

    `decode` puts pieces together; spaces next to signs, and with `lower` case and accents, are lost.
    """

    @classmethod
    def train(cls, texts: Texts, vocab_size: int = 8000, min_frequency: int = 2,
              lower: bool = True) -> WordPieceTokenizer:
        """Learn up to `vocab_size` pieces from `texts`; ids 0 to 4 are [PAD] [UNK] [CLS] [SEP] [MASK]."""
        library = _library()
        backend = _wordpiece({token: number for number, token in enumerate(BERT_SPECIALS)}, lower)
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(BERT_SPECIALS), show_progress=False)
        backend.train_from_iterator(each_text(texts), trainer)
        return cls(backend)

    @classmethod
    def load(cls, path: str | os.PathLike, lower: bool = True) -> WordPieceTokenizer:
        """The tokeniser of a `tokenizer.json`, of a `vocab.txt` (one piece a line, as BERT has it), or of a folder.

        lower: whether a `vocab.txt` is for text in lower case; `tokenizer.json` says so itself.
        Raises DataNotFoundError if there is no such file, FileFormatError if it is not one.
        """
        file, name = _file_of(path, "tokenizer.json", "vocab.txt")
        if name.endswith(".json"):
            return cls(_from_json(file))
        try:
            pieces = file.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{file}: byte {error.start:,} is not UTF-8") from error
        pieces = [piece.removesuffix("\r") for piece in pieces]
        while pieces and not pieces[-1]:
            pieces.pop()
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        missing = [token for token in BERT_SPECIALS[:4] if token not in vocabulary]
        if missing or len(vocabulary) != len(pieces):
            problem = f"{', '.join(missing)} not among them" if missing else "a piece occurs twice"
            raise FileFormatError(f"{file}: a vocab.txt holds one piece a line, with {', '.join(BERT_SPECIALS[:4])}; "
                                  f"this one has {len(pieces):,} lines, {problem}")
        return cls(_wordpiece(vocabulary, lower))


class BPETokenizer(SubwordTokenizer):
    """GPT-2's tokeniser: bytes, put together in the order that was learnt; `decode(encode(text))` is the text again."""

    @classmethod
    def train(cls, texts: Texts, vocab_size: int = 8000, min_frequency: int = 2,
              specials: Sequence[str] = ("<pad>", "<|endoftext|>")) -> BPETokenizer:
        """Learn up to `vocab_size` tokens from `texts`: `specials` first, then the 256 bytes, then joined ones."""
        library = _library()
        backend = _byte_level(library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(specials), show_progress=False,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet())
        backend.train_from_iterator(each_text(texts), trainer)
        return cls(backend)

    @classmethod
    def load(cls, path: str | os.PathLike) -> BPETokenizer:
        """The tokeniser of a `tokenizer.json`, or of a folder with one or with `vocab.json` and `merges.txt`.

        Raises DataNotFoundError if there is no such file, FileFormatError if it is not one.
        """
        file, name = _file_of(path, "tokenizer.json", "vocab.json")
        if name != "vocab.json":
            return cls(_from_json(file))
        merges, _ = _file_of(file.with_name("merges.txt"))
        try:
            model = _library().models.BPE.from_file(str(file), str(merges))
        except GOING_ON:
            raise
        except BaseException as error:
            raise FileFormatError(f"{file} and {merges.name}: the tokenizers library refuses them: {error}") from error
        return cls(_byte_level(model))


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError("WordPiece and BPE need the tokenizers library: pip install 'minidl[text]'") from error
    return tokenizers


def _wordpiece(vocabulary: dict[str, int], lower: bool) -> Any:
    library = _library()
    backend = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = library.normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    backend.decoder = library.decoders.WordPiece()
    backend.add_special_tokens([token for token in BERT_SPECIALS if token in vocabulary])
    backend.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")])
    return backend


def _byte_level(model: Any) -> Any:
    library = _library()
    backend = library.Tokenizer(model)
    backend.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = library.decoders.ByteLevel()
    return backend


def _from_json(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        json.loads(text)
        return _library().Tokenizer.from_str(text)
    except GOING_ON:
        raise
    except BaseException as error:
        raise FileFormatError(f"{file}: the tokenizers library refuses it: {error}") from error


def _file_of(path: str | os.PathLike, *names: str) -> tuple[Path, str]:
    """The file itself, or the first of `names` in a folder, and its name."""
    path = Path(path)
    candidates = [path / name for name in names] if path.is_dir() else [path]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise DataNotFoundError(f"no {' or '.join(names) or path.name} in {path if path.is_dir() else path.parent}")
    return found, found.name
