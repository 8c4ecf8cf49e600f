"""`model.summary((1, 28, 28))`: a table of the layers, what comes out of each, and what is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.tensor import Tensor, no_grad


def output_shapes(model: Any, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape that comes out of every module for one sample of `input_shape` (without the batch axis).

    Of several results, as of a recurrent layer, the first counts. The sample is of integers where the first module
    with parameters takes those (an embedding), else of the dtype of the parameters. The model's own hooks are put
    aside meanwhile: a sample of zeros is nothing for them to see.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    before = [(module, module._mode, vars(module).pop("_forward_hooks", None)) for module in model.modules()]
    for path, module in model.named_modules():
        def note(module: Any, inputs: Any, output: Any, path: str = path) -> None:
            if isinstance(output, tuple) and output:  # the output proper comes first, attention weights second
                output = output[0]
            if isinstance(output, Tensor):
                shapes[path] = output.shape
        module.register_forward_hook(note)
    owners = (module for module in model.modules() if next(module.parameters(recurse=False), None) is not None)
    first = next(owners, model)
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    dtype = np.dtype(np.int64) if first.takes_integers else dtype
    try:
        with no_grad():
            model.eval()
            model(Tensor(np.zeros((1, *input_shape), dtype)))
    finally:
        for module, mode, hooks in before:
            module.training = mode
            del module._forward_hooks
            if hooks is not None:
                module._forward_hooks = hooks
    return shapes


def summarise(model: Any, input_shape: tuple[int, ...] | None = None) -> str:
    """Layer, output shape, parameters and how many of them are trainable, a line a layer; totals below.

    input_shape: the shape of one sample without the batch axis, such as (1, 28, 28); without it no shapes are shown.
    Memory counts the parameters and the outputs of one sample, in bytes of their dtype.
    """
    shapes = output_shapes(model, tuple(input_shape)) if input_shape is not None else {}
    rows = [("layer", "class", "output shape", "parameters", "trainable")]
    outputs = 0
    for path, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if not own and next(module.named_children(), None) is not None:
            continue
        count, trainable = (sum(p.numel() for p in chosen) for chosen in (own, [p for p in own if p.requires_grad]))
        shape = shapes.get(path)
        outputs += int(np.prod(shape)) if shape else 0
        rows.append((path or "(model)", type(module).__name__, str(("N", *shape[1:])).replace("'", "") if shape else "",
                     f"{count:,}", f"{trainable:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.rjust(w) if column > 2 else cell.ljust(w)
                       for column, (cell, w) in enumerate(zip(row, widths))).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    lines.append(lines[1])
    lines.append(f"{total:,} parameters, {trained:,} trainable, {total - trained:,} frozen")
    width = parameters[0].array.itemsize if parameters else 4
    memory = f"memory: parameters {sum(p.array.nbytes for p in parameters) / 1e6:.2f} MB"
    lines.append(memory + (f", outputs of one sample {outputs * width / 1e6:.2f} MB" if outputs else ""))
    return "\n".join(lines)
