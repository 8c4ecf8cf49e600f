"""`sequence`: training steps of networks that read sequences, in time and in memory, as `training.py` does.

MAKERS lists what yields the rows, one function a family of networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import transformers
from benchmarks.recurrent_twins import EXTRA, TASKS
from benchmarks.suite import Settings, Work
from benchmarks.training import step_work


def recurrent(settings: Settings) -> Iterator[Work]:
    """Embedding, then RNN, LSTM or GRU; batch 1 and odd sizes only when there is time."""
    for task in TASKS:
        yield step_work(task, settings, memory=not settings.sample and settings.threads == 1)
    for task in () if settings.quick else EXTRA:
        yield step_work(task, settings, memory=False)


MAKERS: list[Callable[[Settings], Iterator[Work]]] = [recurrent, transformers.works]


def works(settings: Settings) -> Iterator[Work]:
    """The rows of all families."""
    for maker in MAKERS:
        yield from maker(settings)
