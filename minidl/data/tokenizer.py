"""From text to token ids and back: by characters, and by words. WordPiece and BPE are in `subwords.py`.

All tokenisers have the same methods: `train(texts)` makes one, `encode` and `encode_batch` give ids, `decode` gives
text, `save` and `load` keep it. What is unknown becomes the vocabulary's `unk`, or an error where it has none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from minidl.data.texts import Corpus
from minidl.data.vocabulary import Vocabulary
from minidl.errors import FileFormatError

Texts = str | Corpus | Iterable[str]
Kind = TypeVar("Kind", bound="Tokenizer")
DIGIT = re.compile(r"\d")
WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")  # words, with the apostrophes within them, and single signs


class Tokenizer:
    """What the tokenisers share; a subclass says how a text is cut into `tokens` and put together again by `join`."""

    kind = ""

    def __init__(self, vocabulary: Vocabulary):
        if not isinstance(vocabulary, Vocabulary):
            raise TypeError(f"{type(self).__name__}: a Vocabulary is needed, got {type(vocabulary).__name__}; "
                            f"{type(self).__name__}.train(texts) makes a tokeniser of texts")
        self.vocabulary = vocabulary

    @property
    def pad_id(self) -> int | None:
        """The id that fills up short sequences, None if there is none."""
        return self.vocabulary.pad_id

    @property
    def unk_id(self) -> int | None:
        """The id of unknown tokens, None if there is none."""
        return self.vocabulary.unk_id

    def __len__(self) -> int:
        """How many tokens there are: the `num_embeddings` of an embedding for them."""
        return len(self.vocabulary)

    def tokens(self, text: str) -> list[str]:
        """The pieces of `text`, known or not."""
        raise NotImplementedError(f"{type(self).__name__} must define tokens(text)")

    def join(self, tokens: Sequence[str]) -> str:
        """The text of these pieces."""
        raise NotImplementedError(f"{type(self).__name__} must define join(tokens)")

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens. Raises ValueError for an unknown one if the vocabulary has no `unk`."""
        return self.vocabulary.lookup_indices(self.tokens(text))

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text; `minidl.data.pad_sequences` makes one array of them."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids, without padding. Raises IndexError for an id outside the vocabulary."""
        tokens = self.vocabulary.lookup_tokens(int(number) for number in ids)
        return self.join([token for token in tokens if token != self.vocabulary.pad])

    def save(self, path: str | os.PathLike) -> None:
        """Write the vocabulary and the options as JSON."""
        self.vocabulary.save(path, tokenizer=self.kind, options=self.options())

    @classmethod
    def load(cls: type[Kind], path: str | os.PathLike) -> Kind:
        """The tokeniser that `save` wrote. Raises FileFormatError for anything else."""
        vocabulary, more = Vocabulary.read(path)
        if more.get("tokenizer") != cls.kind:
            raise FileFormatError(f"{path}: holds a tokeniser of the kind {more.get('tokenizer')!r}, a {cls.__name__} "
                                  f"needs {cls.kind!r}")
        tokenizer = cls(vocabulary)
        options = more.get("options")
        if not isinstance(options, dict) or options.keys() != tokenizer.options().keys() or not all(
                isinstance(value, bool) for value in options.values()):
            raise FileFormatError(f"{path}: the options of a {cls.__name__} are {tokenizer.options()}, found {options}")
        vars(tokenizer).update(options)
        return tokenizer

    def options(self) -> dict[str, Any]:
        """What `save` keeps beside the vocabulary."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocabulary!r})"


class CharTokenizer(Tokenizer):
    """One token for each character; `decode(encode(text))` is the text again."""

    kind = "characters"

    @classmethod
    def train(cls, texts: Texts, pad: str | None = None, unk: str | None = None) -> CharTokenizer:
        """A tokeniser for the characters of `texts` (one string or several), in the order of their code points."""
        characters = sorted(set().union(*each_text(texts)))
        return cls(Vocabulary(characters, pad, unk))

    def tokens(self, text: str) -> list[str]:
        return list(text)

    def join(self, tokens: Sequence[str]) -> str:
        return "".join(tokens)


class WordTokenizer(Tokenizer):
    """Words and single signs; `decode` puts a space between tokens, so that spaces and, with `lower`, case are lost.

    lower: write everything in lower case first.
    zero_digits: write every digit as 0 first, so that numbers of one length, such as telephone numbers, are one word.
    """

    kind = "words"

    def __init__(self, vocabulary: Vocabulary, lower: bool = True, zero_digits: bool = False):
        super().__init__(vocabulary)
        self.lower, self.zero_digits = lower, zero_digits

    @classmethod
    def train(cls, texts: Texts, min_frequency: int = 1, max_size: int | None = None, lower: bool = True,
              pad: str | None = "<pad>", unk: str | None = "<unk>", specials: Sequence[str] = (),
              zero_digits: bool = False) -> WordTokenizer:
        """A tokeniser for the words of `texts` (one string or several); see `Vocabulary.build` for the options."""
        cut = cls(Vocabulary([]), lower, zero_digits).tokens
        vocabulary = Vocabulary.build(map(cut, each_text(texts)), min_frequency, max_size, pad, unk, specials)
        return cls(vocabulary, lower, zero_digits)

    def tokens(self, text: str) -> list[str]:
        text = text.lower() if self.lower else text
        return WORDS.findall(DIGIT.sub("0", text) if self.zero_digits else text)

    def join(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)

    def options(self) -> dict[str, Any]:
        return {"lower": self.lower, "zero_digits": self.zero_digits}


def each_text(texts: Texts) -> Iterable[str]:
    """The texts one by one, of whichever form."""
    return [str(texts)] if isinstance(texts, (str, Corpus)) else texts
