"""Recurrent networks whose one source text runs under minidl and under PyTorch, as those of `twins.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.twins import Library, Task

VOCABULARY = 1000


def reader(kind: str, width: int = 64, hidden: int = 128, vocabulary: int = VOCABULARY) -> Callable[[Library], Any]:
    """A network for words x (N, T): embedding, one layer of nn.`kind`, the mean of its states, dense 10."""

    def network(lib: Library) -> Any:
        nn = lib.nn

        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = nn.Embedding(vocabulary, width)
                self.recurrent = getattr(nn, kind)(width, hidden, batch_first=True)
                self.head = nn.Linear(hidden, 10)

            def forward(self, x: Any) -> Any:
                states, _ = self.recurrent(self.embedding(x))  # N, T, H
                return self.head(states.mean(1))

        return Reader()

    return network


def _task(kind: str) -> Task:
    small = Task(f"small {kind}", reader(kind, 8, 16, 10), (4, 3), vocabulary=10)
    return Task(f"{kind} 64 -> 128, T 100, batch 64", reader(kind), (64, 100), vocabulary=VOCABULARY, warm=small)


TASKS = tuple(_task(kind) for kind in ("RNN", "LSTM", "GRU"))
EXTRA = (
    Task("LSTM 64 -> 128, T 100, batch 1", reader("LSTM"), (1, 100), vocabulary=VOCABULARY),
    Task("GRU 50 -> 100, T 37, batch 13", reader("GRU", 50, 100), (13, 37), vocabulary=VOCABULARY),
)
