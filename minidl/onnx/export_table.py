"""The table of emitters: for each operation of minidl the function that writes it as ONNX nodes.

An emitter takes the graph and then the operation's own arguments, by the operation's names, and returns its result:
`conv2d(graph, x, weight, bias, stride, …)`. The families stand in files of their own, as those of `minidl/ops/` do.
"""

from __future__ import annotations

from collections.abc import Callable

EMITTERS: dict[str, Callable] = {}

_LOSS = "it is a loss, which only training needs: export the network that computes the scores"
REFUSED: dict[str, str] = {  # operations that are not exported, and why
    **dict.fromkeys(("binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss",
                     "kl_div", "l1_loss", "mse_loss", "nll_loss", "smooth_l1_loss"), _LOSS),
    "place_rows": "packed sequences have no counterpart in ONNX: give the recurrent layer padded sequences and their "
                  "lengths, layer(x, None, lengths)",
}


def emitter(*names: str) -> Callable[[Callable], Callable]:
    """Enter a function in the table under these names, or under its own without an underscore in front or behind."""
    def enter(function: Callable) -> Callable:
        for name in names or (function.__name__.strip("_"),):
            EMITTERS[name] = function
        return function
    return enter
