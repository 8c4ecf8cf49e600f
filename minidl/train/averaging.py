"""A callback that averages the weights while a `Trainer` trains; the average itself is in `transfer/averaging.py`."""

from __future__ import annotations

from typing import Any

from minidl.train.callbacks import Callback
from minidl.transfer.averaging import ExponentialMovingAverage


class WeightAveraging(Callback):
    """Updates a moving average of the weights after every `every` steps of the optimiser.

    keep: write the average into the model at the end (after Ctrl-C only if you call `ema.copy_to_model()`). Validation
    during the run measures the model's own weights; `with ema.applied(): trainer.evaluate(…)` measures the average.
    """

    def __init__(self, ema: ExponentialMovingAverage, every: int = 1, keep: bool = False):
        if not isinstance(ema, ExponentialMovingAverage):
            raise TypeError(f"WeightAveraging: an ExponentialMovingAverage is needed, got {type(ema).__name__}; of a "
                            "model: transfer.ExponentialMovingAverage(model)")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"WeightAveraging: every must be a whole number of steps from 1, got {every!r}")
        self.ema, self.every, self.keep = ema, every, keep
        self._steps = 0

    def on_fit_begin(self, trainer: Any) -> None:
        if self.ema.model is not trainer.model:
            raise ValueError("WeightAveraging: the average is of another model than the trainer's")
        self._steps = 0

    def on_batch_end(self, trainer: Any, step: int, loss: float) -> None:
        self._steps += 1
        if self._steps % self.every == 0:
            self.ema.update()

    def on_fit_end(self, trainer: Any) -> None:
        if self.keep and not trainer.history.interrupted:
            self.ema.copy_to_model()

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.ema.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ema.load_state_dict(state["average"])
        self._steps = int(state["steps"])
