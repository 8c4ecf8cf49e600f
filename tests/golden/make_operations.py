"""Make operations.npz: what PyTorch computes for every case of tests/cases.py, forward and every gradient, in float64.

Run with PyTorch 2.13 installed: `python tests/golden/make_operations.py`. The tests only read the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases import CASES, Case  # noqa: E402


def with_tensors(function):
    """`function` with the arrays among its options turned into float64 tensors (class weights, running statistics)."""
    def call(*inputs, **options):
        return function(*inputs, **{name: torch.tensor(value, dtype=torch.float64) if isinstance(value, np.ndarray)
                                    else value for name, value in options.items()})

    return call


def batch_norm(x, weight=None, bias=None, running_mean=None, running_var=None, **options):
    return F.batch_norm(x, running_mean, running_var, weight, bias, **options)


def layer_norm(x, weight=None, bias=None, *, normalized_shape, **options):
    return F.layer_norm(x, np.atleast_1d(normalized_shape).tolist(), weight, bias, **options)


def attention(query, key, value, attn_mask=None, **options):
    mask = torch.tensor(attn_mask) if isinstance(attn_mask, np.ndarray) else attn_mask
    return F.scaled_dot_product_attention(query, key, value, mask, **options)


def multi_head_attention(query, key, value, attn_mask=None, *, num_heads, is_causal=False, past=0):
    """Heads apart, and what is_causal means written into a mask of numbers."""
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    mask = torch.zeros(query.shape[-2], key.shape[-2], dtype=query.dtype)
    if isinstance(attn_mask, np.ndarray):
        mask = mask.masked_fill(~torch.tensor(attn_mask), -torch.inf)
    elif attn_mask is not None:
        mask = mask + attn_mask
    if is_causal:
        mask = mask.masked_fill(~torch.ones(mask.shape[-2:], dtype=torch.bool).tril(past), -torch.inf)
    return F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)


def packed_attention(qkv, attn_mask=None, **options):
    return multi_head_attention(*qkv.chunk(3, dim=-1), attn_mask, **options)


def as_tensors(index):
    """An index with its arrays turned into tensors."""
    if isinstance(index, tuple):
        return tuple(as_tensors(part) for part in index)
    return torch.tensor(index) if isinstance(index, np.ndarray) else index


def recurrent(name, starts):
    """One direction of PyTorch's layer `name` in both: h of all steps and, behind them, the `starts` last states."""
    def call(x, *tensors, batch_sizes=None, reverse=False, nonlinearity="tanh"):
        states, weights = tensors[:starts], tensors[starts:]
        hx, options = [torch.stack((state, state)) for state in states], (len(weights) == 4, 1, 0.0, False, True)
        function = getattr(torch, name if name != "rnn" else f"rnn_{nonlinearity}")
        arguments = (hx if starts > 1 else hx[0], [*weights, *weights], *options)
        if batch_sizes is None:
            output, *last = function(x, *arguments, False)
        else:
            output, *last = function(x, torch.tensor(batch_sizes), *arguments)
        output = output.unflatten(-1, (2, -1))[..., int(reverse), :]
        last = [state[int(reverse)] for state in last]
        return torch.cat((output, torch.stack(last) if batch_sizes is None else torch.cat(last)))

    return call


def place_rows(x, index, value=0.0):
    index = torch.tensor(index)
    return torch.where((index < 0).unsqueeze(-1), value, x[index])


OTHERS = {
    "batch_norm": with_tensors(batch_norm),
    "layer_norm": layer_norm,
    "group_norm": lambda x, weight=None, bias=None, **options: F.group_norm(x, weight=weight, bias=bias, **options),
    "scaled_dot_product_attention": attention,
    "multi_head_attention": multi_head_attention,
    "packed_attention": packed_attention,
    "feature_dropout": F.dropout2d,
    "cross_entropy": with_tensors(F.cross_entropy),
    "nll_loss": with_tensors(F.nll_loss),
    "binary_cross_entropy": with_tensors(F.binary_cross_entropy),
    "binary_cross_entropy_with_logits": with_tensors(F.binary_cross_entropy_with_logits),
    "clip": torch.clamp,
    "rnn": recurrent("rnn", 1),
    "lstm": recurrent("lstm", 2),
    "gru": recurrent("gru", 1),
    "place_rows": place_rows,
    "cast": lambda x, dtype: x.to(getattr(torch, dtype)),
    "sum": lambda x, **options: x.sum(**options),
    "repeat": lambda x, sizes: x.repeat(*sizes),
    "cat": lambda *xs, dim=0: torch.cat(xs, dim),
    "stack": lambda *xs, dim=0: torch.stack(xs, dim),
    "broadcast_to": lambda x, size: x.expand(size),
    "getitem": lambda x, index: x[as_tensors(index)],
    "gather": lambda x, dim, index: torch.gather(x, dim, torch.tensor(index)),
    "masked_fill": lambda x, mask, value: x.masked_fill(torch.tensor(mask), value),
    "scatter": lambda x, source, dim, index: x.scatter(dim, torch.tensor(index), source[: len(index), : len(index[0])]),
    "einsum": lambda *xs, equation: torch.einsum(equation, *xs),
}


def reference(operation: str):
    """PyTorch's function for one of minidl's operations: the same name, unless OTHERS says otherwise."""
    for where in (OTHERS.get(operation), getattr(F, operation, None), getattr(torch, operation, None)):
        if where is not None:
            return where
    raise KeyError(f"no PyTorch function known for '{operation}': add it to OTHERS")


def golden(case: Case) -> dict[str, np.ndarray]:
    inputs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in case.arrays(np.float64)]
    output = reference(case.operation)(*inputs, **case.options)
    weights = weights_for(case, tuple(output.shape))
    output.backward(torch.tensor(weights))
    values = {f"{case.name}/output": output.detach().numpy()}
    for index, x in enumerate(inputs):
        if x.requires_grad:
            values[f"{case.name}/gradient{index}"] = x.grad.numpy()
    return values


def weights_for(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient sent into the result: different numbers everywhere, exact in float32."""
    return np.random.default_rng(len(case.name)).standard_normal(shape).astype(np.float32).astype(np.float64)


if __name__ == "__main__":
    values: dict[str, np.ndarray] = {}
    for case in CASES:
        values |= golden(case)
    path = Path(__file__).with_name("operations.npz")
    np.savez_compressed(path, **values)
    print(f"{len(CASES)} cases, {path.stat().st_size / 1e3:.0f} kB")
