"""Vocabulary: the tokens that have a number, and the number of each; the rows of an `nn.Embedding` stand for them.

Padding comes first (id 0), then the token that stands for unknown ones, then other special tokens, then the rest.
`tokenizer.py` cuts texts into tokens and keeps a vocabulary.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from minidl.atomic import write_text
from minidl.data.files import read_up_to
from minidl.errors import FileFormatError, ShapeError, did_you_mean

FILE_LIMIT = 64 * 2**20  # bytes
FORMAT = "minidl vocabulary 1"


class Vocabulary:
    """`tokens[id]` is the token of an id; `vocabulary[token]` the id of a token, that of `unk` for an unknown one.

    tokens: distinct strings; `pad`, `unk` and `specials` are put in front of them unless they are among them.
    pad, unk: the tokens for padding and for what is unknown; None if there is none. `pad_id`, `unk_id` are their ids.
    Raises TypeError for tokens that are no strings, ValueError for one that occurs twice.
    """

    def __init__(self, tokens: Iterable[str], pad: str | None = "<pad>", unk: str | None = "<unk>",
                 specials: Sequence[str] = ()):
        given = list(tokens)
        front = [token for token in dict.fromkeys([pad, unk, *specials]) if token is not None]
        known = set(given)
        self.tokens = [token for token in front if token not in known] + given
        self.specials = tuple(front)
        self.pad, self.unk = pad, unk
        wrong = next((token for token in self.tokens if not isinstance(token, str)), None)
        if isinstance(tokens, str) or wrong is not None:
            raise TypeError("Vocabulary: tokens must be a list of strings, got "
                            + ("one string" if wrong is None else f"{wrong!r} among them"))
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"Vocabulary: the token {twice!r} occurs twice; each needs an id of its own")
        self.pad_id = None if pad is None else self._ids[pad]
        self.unk_id = None if unk is None else self._ids[unk]

    @classmethod
    def build(cls, sequences: Iterable[Iterable[str]], min_frequency: int = 1, max_size: int | None = None,
              pad: str | None = "<pad>", unk: str | None = "<unk>", specials: Sequence[str] = ()) -> Vocabulary:
        """The tokens of `sequences` that occur at least `min_frequency` times, frequent ones first, then by alphabet.

        max_size: the largest length of the vocabulary, special tokens included.
        Raises ValueError if the special tokens alone are more than `max_size`.
        """
        counts = Counter(token for sequence in sequences for token in sequence)
        front = cls([], pad, unk, specials).tokens
        if max_size is not None and max_size < len(front):
            raise ValueError(f"Vocabulary: max_size {max_size} has no room for the {len(front)} special tokens {front}")
        taken = set(front)
        frequent = [token for token, count in counts.items() if count >= min_frequency and token not in taken]
        frequent.sort(key=lambda token: (-counts[token], token))
        room = len(frequent) if max_size is None else max_size - len(front)
        return cls(front + frequent[:room], pad, unk, specials)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __getitem__(self, token: str) -> int:
        found = self._ids.get(token, self.unk_id)
        if found is None:
            raise KeyError(f"the token {token!r} is not among the {len(self):,} of the vocabulary, which has no unk "
                           f"token for unknown ones{did_you_mean(token, self.tokens)}")
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]

    def lookup_indices(self, tokens: Iterable[str]) -> list[int]:
        """The id of each token. Raises ValueError for an unknown one, with its position, if there is no `unk`."""
        ids = [self._ids.get(token, self.unk_id) for token in tokens]
        if self.unk_id is None and None in ids:
            position = ids.index(None)
            token = list(tokens)[position]
            raise ValueError(f"the token {token!r} at position {position} is not among the {len(self):,} of the "
                             "vocabulary; train it on texts that have it, or with an unk token for unknown ones")
        return ids  # type: ignore[return-value]

    def lookup_tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id. Raises IndexError, with its position, for an id outside the vocabulary."""
        found = []
        for position, number in enumerate(ids):
            if not 0 <= number < len(self.tokens):
                raise IndexError(f"the id {number} at position {position} lies outside the vocabulary of "
                                 f"{len(self):,} tokens (0..{len(self) - 1})")
            found.append(self.tokens[number])
        return found

    def check_weights(self, embedding: Any, name: str = "embedding") -> None:
        """Raise ShapeError unless `embedding`, a layer or its table (V, D), has one row for each token.

        name: what the layer is called in the message, such as its path in the model.
        """
        shape = tuple(getattr(embedding, "weight", embedding).shape)
        if not shape or shape[0] != len(self):
            last = f", the last of them {self.tokens[-1]!r}" if self.tokens else ""
            raise ShapeError(f"{name}: its weight has shape {shape}, that is {shape[0] if shape else 0:,} rows, but "
                             f"the vocabulary has {len(self):,} tokens{last}: load the vocabulary that was saved with "
                             f"these weights, or make the layer with num_embeddings={len(self)}")

    def save(self, path: str | os.PathLike, **more: Any) -> None:
        """Write the tokens as JSON to `path`, replacing a file that is there in one step."""
        write_text(path, json.dumps({"format": FORMAT, **more, **self._state()}, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Vocabulary:
        """The vocabulary that `save` wrote. Raises FileFormatError for anything else."""
        return cls.read(path)[0]

    @classmethod
    def read(cls, path: str | os.PathLike) -> tuple[Vocabulary, dict[str, Any]]:
        """The vocabulary of a file, and what else it was saved with."""
        with open(path, "rb") as stream:
            raw = read_up_to(stream, FILE_LIMIT + 1)
        if len(raw) > FILE_LIMIT:
            raise FileFormatError(f"{path}: larger than {FILE_LIMIT:,} bytes, which is no vocabulary")
        try:
            content = json.loads(raw.decode("utf-8"))
            if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
                raise ValueError(f"expected a JSON object with \"format\": \"{FORMAT}\"")
            state = {key: content.pop(key) for key in ("tokens", "pad", "unk", "specials")}
            if not isinstance(state["tokens"], list) or not isinstance(state["specials"], list):
                raise ValueError("tokens and specials must be lists")
            vocabulary = cls(**state)
            if vocabulary.tokens != state["tokens"]:
                raise ValueError("a special token is not among the tokens")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FileFormatError(f"{path}: no vocabulary saved by minidl: {error}") from error
        return vocabulary, content

    def _state(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "pad": self.pad, "unk": self.unk, "specials": list(self.specials)}

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} tokens, pad={self.pad!r}, unk={self.unk!r})"
