"""Expressions that mean the same in PyTorch and in minidl: values, dtype, shape and gradient must agree.

Each is a function of the library `t` (torch or minidl) and of x, float32 (2, 3, 4), which requires a gradient.
`golden/make_expressions.py` keeps PyTorch's answers, `test_expressions.py` compares. These are the places where
NumPy and PyTorch differ, or where ties, zeros and dtypes decide; plain numerics are in `cases.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

X = np.random.default_rng(7).standard_normal((2, 3, 4)).astype(np.float32)
WHOLE = np.random.default_rng(8).integers(-2, 3, (3, 4))
TIES = np.array([[1, 3, 3], [2, 2, 2], [0, -1, -1]], np.float32)
BASES = np.array([-2, -1, 0, 0.5, 2], np.float32)
FLOAT64_ZERO_DIM = np.array(2.5)

EXPRESSIONS: dict[str, Callable] = {
    # dtypes
    "one-hot": lambda t, x: t.nn.functional.one_hot(t.tensor([[0, 2], [1, 1]])),
    "one-hot-of-four": lambda t, x: t.nn.functional.one_hot(t.tensor([0, 2]), num_classes=4),
    "normalize": lambda t, x: t.nn.functional.normalize(x, dim=-1),
    "normalize-by-1-norm": lambda t, x: t.nn.functional.normalize(x, p=1.0),
    "int-plus-float32": lambda t, x: t.tensor(WHOLE) + x[0],
    "float32-times-float64-zero-dim": lambda t, x: x * t.tensor(FLOAT64_ZERO_DIM),
    "float32-plus-float64": lambda t, x: x + x.double(),
    "int-divided-by-int": lambda t, x: t.tensor(WHOLE) / 2,
    "int-divided-by-half": lambda t, x: (t.tensor(WHOLE) / t.ones(4, dtype=t.float16)).float(),
    "uint8-times-python-float": lambda t, x: t.tensor(WHOLE + 2, dtype=t.uint8) * 0.5,
    "bool-plus-int-zero-dim": lambda t, x: (x > 0) + t.tensor(3),
    "bool-sum": lambda t, x: (x > 0).sum(0),
    "uint8-sum": lambda t, x: t.tensor(WHOLE + 2, dtype=t.uint8).sum(),
    "int32-cumsum": lambda t, x: t.tensor(WHOLE, dtype=t.int32).cumsum(1),
    "int-times-true": lambda t, x: t.tensor(WHOLE) * True,
    "python-float-power-of-int": lambda t, x: 2.0 ** t.tensor(WHOLE),
    "where-two-numbers": lambda t, x: t.where(x > 0, 1.0, 0.0),
    "where-int-and-float": lambda t, x: t.where(x > 0, x, 0),
    "int-clamp-float": lambda t, x: t.tensor(WHOLE).clamp(min=0.5),
    "int-exp": lambda t, x: t.exp(t.tensor(WHOLE)),
    "int-sigmoid": lambda t, x: t.sigmoid(t.tensor(WHOLE)),
    "cat-int-and-float": lambda t, x: t.cat([x, t.tensor(WHOLE)[None]]),
    "sum-in-float64": lambda t, x: x.sum(dtype=t.float64),
    "to-and-back": lambda t, x: (x.double() * 2).to(t.float32) * x,
    "long-cuts-off": lambda t, x: (x * 3).long(),
    "floor-divide-int": lambda t, x: t.tensor(WHOLE) // 2,
    "remainder-int": lambda t, x: t.tensor(WHOLE) % 2,
    "divide-truncated-int": lambda t, x: t.div(t.tensor(WHOLE), -2, rounding_mode="trunc"),
    "remainder-negative": lambda t, x: x % -0.7,
    "float-equals-number": lambda t, x: (t.tensor([0.1, 0.2]) == 0.1),
    # powers
    **{f"power-{p}": lambda t, x, p=p: x[0, 0].abs() ** p * x.sum() for p in (0, 1, 2, 3, -1, 0.5, -2.0)},
    **{f"negative-base-power-{p}": lambda t, x, p=p: (t.tensor(BASES) * x[0, 0, 0]) ** p for p in (0, 1, 2, 3)},
    "zero-to-the-zero": lambda t, x: (x * 0) ** 0,
    "zero-to-the-x": lambda t, x: 0 ** x.abs(),
    "zeros-to-many-powers": lambda t, x: (x - x.detach()) ** t.tensor([0.0, 1.0, 2.0, 3.0]),
    "zeros-to-the-x": lambda t, x: t.zeros(4) ** x.abs(),
    # largest, smallest, sorting
    "max-with-ties": lambda t, x: ties(t, x).max(),
    "amax-with-ties": lambda t, x: t.amax(ties(t, x), (0, 1)),
    "amin-with-ties": lambda t, x: ties(t, x).amin(1, keepdim=True),
    "max-dim-values": lambda t, x: ties(t, x).max(1).values,
    "max-dim-indices": lambda t, x: ties(t, x).max(1).indices,
    "max-dim-keepdim": lambda t, x: x.max(dim=-1, keepdim=True)[0],
    "min-dim-values": lambda t, x: ties(t, x).min(1)[0],
    "min-dim-indices": lambda t, x: t.min(ties(t, x), 0)[1],
    "max-of-two": lambda t, x: t.max(x, x.flip(0)),
    "maximum-with-ties": lambda t, x: t.maximum(ties(t, x), t.tensor(TIES) * 0 + 2),
    "argmax": lambda t, x: ties(t, x).argmax(),
    "argmin-dim": lambda t, x: t.argmin(ties(t, x), 1, keepdim=True),
    "sort-values": lambda t, x: x.sort(1)[0],
    "sort-descending": lambda t, x: t.sort(ties(t, x), dim=1, descending=True, stable=True)[1],
    "argsort": lambda t, x: t.argsort(x, 0, descending=True),
    "topk-values": lambda t, x: x.topk(2).values,
    "topk-smallest": lambda t, x: t.topk(x, 2, 1, largest=False)[0],
    "max-that-is-nan": lambda t, x: (ties(t, x) + t.tensor([0.0, float("nan"), 0.0])).max(),
    "nan-is-largest": lambda t, x: t.tensor([1.0, float("nan"), 2.0]).max(),
    "nan-sorts-last": lambda t, x: t.tensor([1.0, float("nan"), 0.0]).argsort(),
    # reductions
    "var-unbiased-false": lambda t, x: x.var(False),
    "var-second-argument": lambda t, x: x.var(0, False),
    "std-keepdim": lambda t, x: x.std((0, 1), keepdim=True),
    "std-of-constant": lambda t, x: (x * 0).std(),
    "prod-one-zero": lambda t, x: (t.tensor([2.0, 0.0, 3.0, 4.0]) * x).prod(2),
    "prod-two-zeros": lambda t, x: (t.tensor([2.0, 0.0, 0.0, 4.0]) * x).prod(),
    "norm-of-zeros": lambda t, x: t.norm(x * 0),
    "norm-of-a-zero-row": lambda t, x: (t.tensor([[1.0], [0.0], [2.0]]) * x).norm(dim=2),
    "norm-1-with-zeros": lambda t, x: t.norm(x * (x > 0), 1),
    "norm-half-with-zeros": lambda t, x: t.norm(x * (x > 0), 0.5, dim=2),
    "norm-inf-with-ties": lambda t, x: ties(t, x).norm(float("inf"), 1),
    "norm-0": lambda t, x: (t.norm(x.detach() * (x > 0), 0)),
    "sum-of-nothing": lambda t, x: t.zeros(0, 3).sum(0),
    "mean-of-zero-dim": lambda t, x: x.sum().mean(0),
    "all-dim": lambda t, x: (x > -1).all(1),
    "any": lambda t, x: (x > 1).any(),
    # activations far out and at 0
    **{f"{name}-extremes": lambda t, x, name=name: getattr(t.nn.functional, name)(extremes(t, x))
       for name in ("relu", "sigmoid", "tanh", "softplus", "gelu", "silu", "elu", "leaky_relu", "selu", "logsigmoid",
                    "relu6", "mish")},
    "prelu-channels": lambda t, x: t.nn.functional.prelu(x, t.tensor([0.1, 0.2, 0.3])),
    "abs-at-zero": lambda t, x: (x * 0).abs(),
    "clamp-at-bounds": lambda t, x: t.clamp(x * 0 + 1, -1, 1),
    # shapes
    "view": lambda t, x: x.view(4, -1),
    "reshape-tuple": lambda t, x: x.reshape((3, 8)),
    "permute": lambda t, x: x.permute(2, 0, 1),
    "T": lambda t, x: x[0].T,
    "mT": lambda t, x: x.mT,
    "flatten": lambda t, x: x.flatten(1),
    "unflatten": lambda t, x: x.unflatten(-1, (2, -1)),
    "expand": lambda t, x: x[:, :1].expand(-1, 5, -1),
    "expand-as": lambda t, x: x[0, 0].expand_as(x),
    "repeat": lambda t, x: x.repeat(2, 1, 1, 2),
    "tile": lambda t, x: t.tile(x, (2,)),
    "flip": lambda t, x: x.flip(0, 2),
    "movedim": lambda t, x: t.movedim(x, 0, 2),
    "squeeze-nothing": lambda t, x: x.squeeze(1),
    "split-sizes": lambda t, x: x.split([1, 3], dim=-1)[1],
    "split-size": lambda t, x: t.split(x, 2, 1)[1],
    "chunk": lambda t, x: x.chunk(3, -1)[1],
    "unbind": lambda t, x: t.unbind(x, 1)[2],
    "stack-rows": lambda t, x: t.stack(list(x), -1),
    "narrow": lambda t, x: x.narrow(2, 1, 2),
    "masked-fill": lambda t, x: x.masked_fill(x > 0, float("-inf")),
    "masked-select": lambda t, x: t.masked_select(x, x > 0),
    "index-select": lambda t, x: t.index_select(x, 1, t.tensor([2, 0, 2])),
    "gather-small": lambda t, x: t.gather(x, 2, t.tensor([[[0, 1, 1]]])),
    "take-along-dim": lambda t, x: t.take_along_dim(x, x.argmax(1, keepdim=True), 1),
    "scatter-number": lambda t, x: x.scatter(2, t.tensor([[[0], [1], [3]]]), 5.0),
    "one-hot-by-scatter": lambda t, x: t.zeros(3, 4).scatter_(1, t.tensor([[1], [3], [0]]), 1.0) * x,
    "nonzero": lambda t, x: t.nonzero(t.tensor(WHOLE)),
    # products
    "einsum-implicit": lambda t, x: t.einsum("bij,bkj", x, x),
    "einsum-spaces": lambda t, x: t.einsum("b i j , b j k -> b i k", x, x.mT),
    "einsum-broadcast-diagonal": lambda t, x: t.einsum("ii,i->i", x[0, :1, :1], x[0, 0]),
    "outer": lambda t, x: t.outer(x[0, 0], x[1, 0]),
    "bmm": lambda t, x: t.bmm(x, x.transpose(1, 2)),
    "mm": lambda t, x: t.mm(x[0], x[1].T),
    "mv": lambda t, x: x[0] @ x[1, 0],
    # creation
    "arange-floats": lambda t, x: t.arange(1, 2, 0.3),
    "arange-ints": lambda t, x: t.arange(5, -2, -2),
    "linspace": lambda t, x: t.linspace(-1, 1, 5),
    "full-int": lambda t, x: t.full((2, 2), 3),
    "full-bool": lambda t, x: t.full((2,), True),
    "eye": lambda t, x: t.eye(2, 3),
    "tensor-ints": lambda t, x: t.tensor([[1, 2], [3, 4]]),
    "tensor-mixed": lambda t, x: t.tensor([1, 2.5]),
    "tensor-of-float64-array": lambda t, x: t.tensor(np.array([1.0])),
    "new-full": lambda t, x: x.double().new_full((2,), 3),
    "meshgrid": lambda t, x: t.meshgrid(t.arange(2), t.arange(3), indexing="ij")[1],
    # in place
    "add-in-place": lambda t, x: x.detach().clone().add_(t.ones(4), alpha=2),
    "clamp-in-place": lambda t, x: x.detach().clone().clamp_(min=0),
    "set-mask": lambda t, x: assigned(x.detach().clone(), x.detach() > 0, 7),
    "set-rows": lambda t, x: assigned(x.detach().clone(), (slice(None), t.tensor([2, 0])), t.ones(2, 4)),
}


def ties(t, x):
    """TIES, plus 0 with a gradient that shows in x."""
    return t.tensor(TIES) + (x[0, :, :3] - x[0, :, :3].detach())


def extremes(t, x):
    return (x - x.detach()).flatten()[:9] + t.tensor([-1e4, -100.0, -20.0, -1.0, 0.0, 1.0, 20.0, 100.0, 1e4])


def assigned(x, index, value):
    x[index] = value
    return x


def weights(shape: tuple[int, ...], dtype) -> np.ndarray:
    """The gradient sent into a result: different everywhere, exact in float32."""
    return (np.arange(int(np.prod(shape))).reshape(shape) % 7 - 2.5).astype(dtype)
