"""The commonest misuse of the functions of minidl itself, from `abs` to `zeros`; see misuse_cases_layers.py."""

from misuse_cases_layers import r, t

import minidl

TOP = {
    "bmm": (
        lambda: minidl.bmm(r(2, 3), r(3, 4)),
        minidl.ShapeError, 'bmm: (2, 3) and (3, 4) hold different numbers of matrices'),
    "mm": (
        lambda: minidl.mm(r(2, 3), r(2, 3)),
        minidl.ShapeError, 'matmul: (2, 3) @ (2, 3): the last axis of the left operand'),
    "mv": (
        lambda: minidl.mv(r(2, 3), r(2)),
        minidl.ShapeError, 'matmul: (2, 3) @ (2,): the last axis of the left operand must'),
    "dot": (
        lambda: minidl.dot(r(3), r(4)),
        minidl.ShapeError, 'matmul: (3,) @ (4,): the last axis of the left operand must'),
    "matmul": (
        lambda: minidl.matmul(r(2, 3), r(2, 3)),
        minidl.ShapeError, 'matmul: (2, 3) @ (2, 3): the last axis of the left operand'),
    "outer": (
        lambda: minidl.outer(r(2, 3), r(3)),
        minidl.ShapeError, 'outer: two vectors are needed, the shapes are (2, 3) and (3,)'),
    "einsum": (
        lambda: minidl.einsum("ij,jk->ik", r(2, 3)),
        ValueError, "einsum: 'ij,jk->ik' names 2 operands, 1 were given"),
    "add": (
        lambda: minidl.add(r(2, 3), r(2)),
        minidl.ShapeError, 'add: shapes (2, 3) and (2,) do not fit together: counted from'),
    "sub": (
        lambda: minidl.sub(r(2, 3), r(2)),
        minidl.ShapeError, 'sub: shapes (2, 3) and (2,) do not fit together: counted from'),
    "subtract": (
        lambda: minidl.subtract(r(2, 3), r(2)),
        minidl.ShapeError, 'sub: shapes (2, 3) and (2,) do not fit together: counted from'),
    "mul": (
        lambda: minidl.mul(r(2, 3), r(2)),
        minidl.ShapeError, 'mul: shapes (2, 3) and (2,) do not fit together: counted from'),
    "multiply": (
        lambda: minidl.multiply(r(2, 3), r(2)),
        minidl.ShapeError, 'mul: shapes (2, 3) and (2,) do not fit together: counted from'),
    "div": (
        lambda: minidl.div(r(2, 3), r(2)),
        minidl.ShapeError, 'div: shapes (2, 3) and (2,) do not fit together: counted from'),
    "divide": (
        lambda: minidl.divide(r(2, 3), r(2)),
        minidl.ShapeError, 'div: shapes (2, 3) and (2,) do not fit together: counted from'),
    "floor_divide": (
        lambda: minidl.floor_divide(r(2, 3), r(2)),
        minidl.ShapeError, 'div: shapes (2, 3) and (2,) do not fit together: counted from'),
    "remainder": (
        lambda: minidl.remainder(r(2, 3), r(2)),
        minidl.ShapeError, 'remainder: shapes (2, 3) and (2,) do not fit together:'),
    "maximum": (
        lambda: minidl.maximum(r(2, 3), r(2)),
        minidl.ShapeError, 'maximum: shapes (2, 3) and (2,) do not fit together: counted'),
    "minimum": (
        lambda: minidl.minimum(r(2, 3), r(2)),
        minidl.ShapeError, 'minimum: shapes (2, 3) and (2,) do not fit together: counted'),
    "pow": (
        lambda: minidl.pow("2", r(2)),
        TypeError, 'cannot compute with str and ndarray: numbers, arrays and'),
    "eq": (
        lambda: minidl.eq(r(2, 3), r(2)),
        minidl.ShapeError, 'eq: shapes (2, 3) and (2,) do not fit together: counted from'),
    "ne": (
        lambda: minidl.ne(r(2, 3), r(2)),
        minidl.ShapeError, 'ne: shapes (2, 3) and (2,) do not fit together: counted from'),
    "lt": (
        lambda: minidl.lt(r(2, 3), r(2)),
        minidl.ShapeError, 'lt: shapes (2, 3) and (2,) do not fit together: counted from'),
    "le": (
        lambda: minidl.le(r(2, 3), r(2)),
        minidl.ShapeError, 'le: shapes (2, 3) and (2,) do not fit together: counted from'),
    "gt": (
        lambda: minidl.gt(r(2, 3), r(2)),
        minidl.ShapeError, 'gt: shapes (2, 3) and (2,) do not fit together: counted from'),
    "ge": (
        lambda: minidl.ge(r(2, 3), r(2)),
        minidl.ShapeError, 'ge: shapes (2, 3) and (2,) do not fit together: counted from'),
    "where": (
        lambda: minidl.where(r(2) > 0, "a", r(2)),
        TypeError, 'cannot compute with str and ndarray: numbers, arrays and'),
    "sum": (
        lambda: minidl.sum(r(2, 3), 2),
        IndexError, 'sum: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "mean": (
        lambda: minidl.mean(r(2, 3), 2),
        IndexError, 'mean: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "amax": (
        lambda: minidl.amax(r(2, 3), 2),
        IndexError, 'amax: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "amin": (
        lambda: minidl.amin(r(2, 3), 2),
        IndexError, 'amin: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "max": (
        lambda: minidl.max(r(2, 3), 2),
        IndexError, 'max: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "min": (
        lambda: minidl.min(r(2, 3), 2),
        IndexError, 'min: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "prod": (
        lambda: minidl.prod(r(2, 3), 2),
        IndexError, 'prod: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "std": (
        lambda: minidl.std(r(2, 3), 2),
        IndexError, 'std: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "var": (
        lambda: minidl.var(r(2, 3), 2),
        IndexError, 'var: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "norm": (
        lambda: minidl.norm(r(2, 3), dim=2),
        IndexError, 'norm: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "logsumexp": (
        lambda: minidl.logsumexp(r(2, 3), 2),
        IndexError, 'logsumexp: dim 2 does not exist for shape (2, 3); expected -2'),
    "cumsum": (
        lambda: minidl.cumsum(r(2, 3), 2),
        IndexError, 'cumsum: dim 2 does not exist for shape (2, 3); expected -2 to'),
    "argmax": (
        lambda: minidl.argmax(r(2, 3), 2),
        IndexError, 'argmax: dim 2 does not exist for shape (2, 3); expected -2 to'),
    "argmin": (
        lambda: minidl.argmin(r(2, 3), 2),
        IndexError, 'argmin: dim 2 does not exist for shape (2, 3); expected -2 to'),
    "argsort": (
        lambda: minidl.argsort(r(2, 3), 2),
        IndexError, 'argsort: dim 2 does not exist for shape (2, 3); expected -2'),
    "sort": (
        lambda: minidl.sort(r(2, 3), 2),
        IndexError, 'argsort: dim 2 does not exist for shape (2, 3); expected -2'),
    "topk": (
        lambda: minidl.topk(r(2, 3), 4),
        minidl.ShapeError, 'topk: k=4, but dim 1 of shape (2, 3) has 3 elements'),
    "all": (
        lambda: minidl.all(r(2, 3), 2),
        IndexError, 'all: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "any": (
        lambda: minidl.any(r(2, 3), 2),
        IndexError, 'any: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "softmax": (
        lambda: minidl.softmax(r(2, 3), 2),
        IndexError, 'softmax: dim 2 does not exist for shape (2, 3); expected -2'),
    "log_softmax": (
        lambda: minidl.log_softmax(r(2, 3), 2),
        IndexError, 'log_softmax: dim 2 does not exist for shape (2, 3); expected'),
    "cat": (
        lambda: minidl.cat([r(2, 3), r(2, 4)]),
        minidl.ShapeError, 'cat: shapes [(2, 3), (2, 4)] must agree in all dims but dim 0'),
    "concat": (
        lambda: minidl.concat([r(2, 3), r(2, 4)]),
        minidl.ShapeError, 'cat: shapes [(2, 3), (2, 4)] must agree in all dims but dim 0'),
    "concatenate": (
        lambda: minidl.concatenate([r(2, 3), r(2, 4)]),
        minidl.ShapeError, 'cat: shapes [(2, 3), (2, 4)] must agree in all dims but dim 0'),
    "stack": (
        lambda: minidl.stack([r(2, 3), r(2, 4)]),
        minidl.ShapeError, 'stack: all shapes must be the same, these are [(2, 3), (2,'),
    "split": (
        lambda: minidl.split(r(4), [1, 2]),
        minidl.ShapeError, 'split: the sizes [1, 2] add up to 3, dim 0 of shape (4,) has'),
    "chunk": (
        lambda: minidl.chunk(r(4), 0),
        ValueError, 'chunk: the number of pieces must be positive, it is 0'),
    "reshape": (
        lambda: minidl.reshape(r(2, 3), (4, 2)),
        minidl.ShapeError, 'reshape: shape (2, 3) has 6 elements, they do not fit into'),
    "unflatten": (
        lambda: minidl.unflatten(r(2, 3), 1, (2, 2)),
        minidl.ShapeError, 'unflatten: dim 1 of shape (2, 3) cannot become (2, 2)'),
    "flatten": (
        lambda: minidl.flatten(r(2, 3), 2),
        IndexError, 'flatten: dim 2 does not exist for shape (2, 3); expected -2'),
    "squeeze": (
        lambda: minidl.squeeze(r(2, 3), 2),
        IndexError, 'squeeze: dim 2 does not exist for shape (2, 3); expected -2'),
    "unsqueeze": (
        lambda: minidl.unsqueeze(r(2, 3), 4),
        IndexError, 'unsqueeze: dim 4 does not exist for shape (2, 3); expected -3'),
    "transpose": (
        lambda: minidl.transpose(r(2, 3), 1, 2),
        IndexError, 'transpose: dim 2 does not exist for shape (2, 3); expected -2'),
    "swapaxes": (
        lambda: minidl.swapaxes(r(2, 3), 1, 2),
        IndexError, 'transpose: dim 2 does not exist for shape (2, 3); expected -2'),
    "permute": (
        lambda: minidl.permute(r(2, 3), (0, 0)),
        minidl.ShapeError, 'permute: dims (0, 0) must name each of the 2 dims of shape'),
    "movedim": (
        lambda: minidl.movedim(r(2, 3), 2, 0),
        IndexError, 'movedim: dim 2 does not exist for shape (2, 3); expected -2'),
    "moveaxis": (
        lambda: minidl.moveaxis(r(2, 3), 2, 0),
        IndexError, 'movedim: dim 2 does not exist for shape (2, 3); expected -2'),
    "broadcast_to": (
        lambda: minidl.broadcast_to(r(2, 3), (2, 4)),
        minidl.ShapeError, 'broadcast_to: shape (2, 3) cannot be expanded to (2, 4): each'),
    "flip": (
        lambda: minidl.flip(r(2, 3), 2),
        IndexError, 'flip: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "roll": (
        lambda: minidl.roll(r(2, 3), 1, 2),
        IndexError, 'roll: dim 2 does not exist for shape (2, 3); expected -2 to 1'),
    "narrow": (
        lambda: minidl.narrow(r(4), 0, 3, 2),
        IndexError, 'narrow: 3 to 5 lies outside dim 0 of shape (4,)'),
    "select": (
        lambda: minidl.select(r(4), 0, 4),
        IndexError, 'index 4 is out of bounds for axis 0 with size 4; the tensor'),
    "unbind": (
        lambda: minidl.unbind(r(4), 1),
        IndexError, 'unbind: dim 1 does not exist for shape (4,); expected -1 to 0'),
    "index_select": (
        lambda: minidl.index_select(r(4), 0, t([4])),
        IndexError, 'index_select: index 4 lies outside dim 0 of shape (4,), which'),
    "gather": (
        lambda: minidl.gather(r(2, 3), 1, t([[3], [0]])),
        IndexError, 'gather: index 3 lies outside dim 1 of shape (2, 3), which'),
    "scatter": (
        lambda: minidl.scatter(r(2, 3), 1, t([[3], [0]]), 1.0),
        IndexError, 'scatter: index 3 lies outside dim 1 of shape (2, 3), which'),
    "take_along_dim": (
        lambda: minidl.take_along_dim(r(2, 3), t([[3], [0]]), 1),
        IndexError, 'gather: index 3 lies outside dim 1 of shape (2, 3), which'),
    "masked_select": (
        lambda: minidl.masked_select(r(3), t([1, 0, 1])),
        TypeError, 'masked_select: a mask of booleans is needed, not int64; use'),
    "dropout": (
        lambda: minidl.dropout(r(3), 50),
        ValueError, 'dropout: p is the probability of an element to be dropped,'),
    "relu": (
        lambda: minidl.relu([1.0]),
        TypeError, 'relu: input 0 is a list; make it a tensor first:'),
    "sigmoid": (
        lambda: minidl.sigmoid([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "tanh": (
        lambda: minidl.tanh([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "exp": (
        lambda: minidl.exp([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "log": (
        lambda: minidl.log([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "sqrt": (
        lambda: minidl.sqrt([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "cos": (
        lambda: minidl.cos([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "sin": (
        lambda: minidl.sin([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "erf": (
        lambda: minidl.erf([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "expm1": (
        lambda: minidl.expm1([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "log1p": (
        lambda: minidl.log1p([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "log2": (
        lambda: minidl.log2([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "log10": (
        lambda: minidl.log10([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "rsqrt": (
        lambda: minidl.rsqrt([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "reciprocal": (
        lambda: minidl.reciprocal([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "ceil": (
        lambda: minidl.ceil([1.0]),
        TypeError, 'ceil: input 0 is a list; make it a tensor first:'),
    "floor": (
        lambda: minidl.floor([1.0]),
        TypeError, 'floor: input 0 is a list; make it a tensor first:'),
    "trunc": (
        lambda: minidl.trunc([1.0]),
        TypeError, 'trunc: input 0 is a list; make it a tensor first:'),
    "allclose": (
        lambda: minidl.allclose(r(2, 3), r(2)),
        minidl.ShapeError, 'allclose: shapes (2, 3) and (2,) do not fit together: counted'),
    "isclose": (
        lambda: minidl.isclose(r(2, 3), r(2)),
        minidl.ShapeError, 'isclose: shapes (2, 3) and (2,) do not fit together: counted'),
    "bitwise_and": (
        lambda: minidl.bitwise_and(r(2), r(2)),
        TypeError, 'bitwise_and: booleans or integers are needed, not float32;'),
    "bitwise_or": (
        lambda: minidl.bitwise_or(r(2), r(2)),
        TypeError, 'bitwise_or: booleans or integers are needed, not float32;'),
    "bitwise_xor": (
        lambda: minidl.bitwise_xor(r(2), r(2)),
        TypeError, 'bitwise_xor: booleans or integers are needed, not float32;'),
    "bitwise_not": (
        lambda: minidl.bitwise_not(r(2)),
        TypeError, 'bitwise_not: booleans or integers are needed, not float32;'),
    "logical_and": (
        lambda: minidl.logical_and(r(2, 3), r(2)),
        minidl.ShapeError, 'logical_and: shapes (2, 3) and (2,) do not fit together:'),
    "logical_or": (
        lambda: minidl.logical_or(r(2, 3), r(2)),
        minidl.ShapeError, 'logical_or: shapes (2, 3) and (2,) do not fit together:'),
    "logical_xor": (
        lambda: minidl.logical_xor(r(2, 3), r(2)),
        minidl.ShapeError, 'logical_xor: shapes (2, 3) and (2,) do not fit together:'),
    "arange": (
        lambda: minidl.arange("3"),
        TypeError, "arange: start, end and step must be numbers, got 0, '3', 1"),
    "as_tensor": (
        lambda: minidl.as_tensor("text"),
        TypeError, 'tensor: numbers are needed, not str of <U4'),
    "tensor": (
        lambda: minidl.tensor("text"),
        TypeError, 'tensor: numbers are needed, not str of <U4'),
    "bernoulli": (
        lambda: minidl.bernoulli(t([2.0])),
        ValueError, 'bernoulli: x holds probabilities, from 0 to 1, but reaches'),
    "empty": (
        lambda: minidl.empty(-1),
        ValueError, 'empty: a size cannot be negative, got (-1,); only reshape and'),
    "zeros": (
        lambda: minidl.zeros(-1),
        ValueError, 'zeros: a size cannot be negative, got (-1,); only reshape and'),
    "ones": (
        lambda: minidl.ones(2.5),
        TypeError, 'ones: sizes are whole numbers, one by one or as a tuple, got'),
    "full": (
        lambda: minidl.full((2, -1), 0.0),
        ValueError, 'full: a size cannot be negative, got (2, -1); only reshape'),
    "eye": (
        lambda: minidl.eye(-1),
        ValueError, 'eye: a size cannot be negative, got (-1, -1); only reshape'),
    "linspace": (
        lambda: minidl.linspace(0, 1, 0.1),
        ValueError, 'linspace: steps must be a whole number from 0, how many'),
    "multinomial": (
        lambda: minidl.multinomial(r(3), 5),
        ValueError, 'multinomial: a row has fewer than 5 weights that are not 0;'),
    "normal": (
        lambda: minidl.normal(0.0, -1.0, (2,)),
        ValueError, 'normal: std must not be negative, got -1.0; of its logarithm'),
    "randint": (
        lambda: minidl.randint(5, 2, (3,)),
        ValueError, 'randint: low must be below high, which itself is never drawn;'),
    "randn": (
        lambda: minidl.randn("3"),
        TypeError, 'randn: sizes are whole numbers, one by one or as a tuple, got'),
    "rand": (
        lambda: minidl.rand(-1),
        ValueError, 'rand: a size cannot be negative, got (-1,); only reshape and'),
    "randperm": (
        lambda: minidl.randperm([1, 2]),
        ValueError, 'randperm: n must be a whole number from 0, got [1, 2]; of a'),
    "rand_like": (
        lambda: minidl.rand_like([1]),
        TypeError, 'rand_like: a tensor is needed, got list; use minidl.tensor(…)'),
    "randn_like": (
        lambda: minidl.randn_like(t([1, 2])),
        TypeError, 'randn_like: what is drawn has floating-point numbers, x is'),
    "from_numpy": (
        lambda: minidl.from_numpy([1, 2]),
        TypeError, 'from_numpy: a NumPy array is needed, not list; use'),
    "from_dlpack": (
        lambda: minidl.from_dlpack([1]),
        TypeError, 'from_dlpack: an array that speaks DLPack is needed, got list;'),
    "grad": (
        lambda: minidl.grad(r(3), [r(3)]),
        RuntimeError, 'grad: the input of shape (3,) does not require a gradient'),
    "set_num_threads": (
        lambda: minidl.set_num_threads(0),
        ValueError, 'set_num_threads: expected a whole number of threads from 1,'),
    "set_precision": (
        lambda: minidl.set_precision("half"),
        ValueError, "unknown precision 'half': there are fast, strict"),
    "use_backend": (
        lambda: minidl.use_backend("abacus").__enter__(),
        ValueError, "unknown backend 'abacus': there are cpu, reference"),
    "use_precision": (
        lambda: minidl.use_precision("half").__enter__(),
        ValueError, "unknown precision 'half': there are fast, strict"),
}
