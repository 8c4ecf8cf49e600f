"""The mark on parameters that hold nothing learnt yet, and the warning when a model with such a part predicts.

`rehead` and `load(…, allow={…: "reinit"})` mark them; a step of an optimiser or loading a value takes the mark away.
"""

from __future__ import annotations

import warnings
from typing import Any

from minidl.nn.module import Module
from minidl.tensor import is_grad_enabled
from minidl.transfer.patterns import check_model


class UntrainedWarning(UserWarning):
    """A model predicts although some of its parameters were never trained."""


def untrained(model: Module) -> list[str]:
    """The names of the parameters that were re-initialised and neither trained nor loaded since."""
    check_model("untrained", model)
    return [name for name, parameter in model.named_parameters() if parameter.untrained]


def watch(model: Module) -> None:
    """Let the model's next prediction warn, once, if parameters are still untrained by then."""
    if untrained(model) and _warn_if_untrained not in model._forward_hooks.values():
        model.register_forward_hook(_warn_if_untrained)


def _warn_if_untrained(model: Module, inputs: Any, output: Any) -> None:
    marked = [(f"{path}.{name}" if path else name, module.training) for path, module in model.named_modules()
              for name, parameter in module._own(False) if parameter.untrained]
    if marked and is_grad_enabled() and all(training for _, training in marked):
        return  # it is being trained
    names = [name for name, _ in marked]
    for key in [key for key, hook in model._forward_hooks.items() if hook is _warn_if_untrained]:
        del model._forward_hooks[key]
    if names:
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        warnings.warn(f"{type(model).__name__} predicts with parameters that were never trained: {shown}; "
                      "train them first (this is said once)", UntrainedWarning, stacklevel=3)
