"""`import minidl as torch`: the names scripts use are there, tensors are made as PyTorch makes them, nothing heavy."""

import subprocess
import sys
import types

import numpy as np
import pytest

import minidl
from minidl.errors import ShapeError

TORCH_NAMES = """
    Tensor tensor as_tensor from_numpy from_dlpack zeros ones full empty eye arange linspace zeros_like ones_like
    full_like empty_like rand randn randint randperm rand_like randn_like normal bernoulli multinomial meshgrid
    Generator manual_seed seed no_grad enable_grad set_grad_enabled inference_mode is_grad_enabled device cuda autograd
    nn optim
    float16 half float32 float float64 double int8 uint8 int16 short int32 int int64 long bool dtype Size finfo iinfo
    abs add all allclose amax amin any argmax argmin argsort bmm broadcast_to cat ceil chunk clamp clip clone concat
    concatenate cos cumsum div dot einsum eq equal erf exp expm1 flatten flip floor gather ge gt index_select isclose
    isfinite isinf isnan le log log10 log1p log2 log_softmax logical_and logical_not logical_or logical_xor logsumexp
    lt masked_select matmul max maximum mean min minimum mm mul mv narrow ne neg nonzero norm outer permute pow prod
    reciprocal relu remainder reshape roll round rsqrt scatter sigmoid sign sin softmax sort split sqrt square squeeze
    stack std sub sum swapaxes take_along_dim tanh tile topk transpose tril triu trunc unbind unsqueeze var where
    is_tensor inf nan pi""".split()
OWN_NAMES = """check_gradients use_backend use_precision set_precision get_precision ShapeError FileFormatError grad
    data train transfer models kernels ops""".split()
FUNCTIONAL_NAMES = """relu relu6 leaky_relu prelu elu selu gelu silu mish sigmoid logsigmoid tanh softplus softmax
    log_softmax pad linear dropout embedding""".split()


@pytest.mark.parametrize("name", TORCH_NAMES + OWN_NAMES)
def test_name_is_there(name):
    assert hasattr(minidl, name) and name in dir(minidl)


@pytest.mark.parametrize("name", FUNCTIONAL_NAMES)
def test_functional_name_is_a_function(name):
    assert callable(getattr(minidl.nn.functional, name))


@pytest.mark.parametrize("namespace", [minidl, minidl.ops], ids=lambda namespace: namespace.__name__)
def test_no_function_is_hidden_by_the_module_of_its_name(namespace):
    families = {name for name, value in vars(minidl.ops).items() if isinstance(value, types.ModuleType)}
    for name in ("einsum", "linear", "matmul", "norm", "softmax", "dropout", "embedding", "tensor", "device"):
        if hasattr(namespace, name):
            assert not isinstance(getattr(namespace, name), types.ModuleType), name
    assert not families & set(minidl.ops.OPS)


def test_import_stays_light_and_the_rest_comes_when_asked_for():
    code = """if True:
        import sys, numpy
        before = set(sys.modules)
        import minidl
        new = set(sys.modules) - before
        heavy = {"inspect", "dataclasses", "json", "tqdm", "safetensors", "numba", "numpy.random", "asyncio", "logging",
                 "subprocess", "multiprocessing", "urllib.request", "minidl.data", "minidl.train", "minidl.transfer"}
        assert not heavy & new, heavy & new
        assert minidl.data.DataLoader and minidl.Generator().manual_seed(0) and minidl.transfer.freeze
        import minidl.tensor
        assert minidl.tensor([1]).dtype == minidl.int64  # the function, not the module
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_says_what_might_be_meant():
    with pytest.raises(AttributeError, match="'concatenat'; did you mean 'concatenate'"):
        minidl.concatenat  # noqa: B018


def test_dtypes_compare_hash_and_describe():
    x = minidl.zeros(2)
    assert x.dtype == minidl.float32 and x.dtype is minidl.float and {minidl.float32: 1}[x.dtype] == 1
    assert isinstance(x.dtype, minidl.dtype) and isinstance(x.shape, minidl.Size) and minidl.is_tensor(x)
    assert minidl.finfo(x.dtype).eps == np.finfo(np.float32).eps
    assert minidl.device("cuda:0").index == 0 and x.device == minidl.device("cpu") and not x.is_cuda
    assert not minidl.cuda.is_available() and minidl.cuda.device_count() == 0
    minidl.cuda.manual_seed_all(0)


def test_tensor_copies_and_as_tensor_and_from_numpy_share():
    array = np.zeros(2, np.float32)
    copied, shared, same = minidl.tensor(array), minidl.as_tensor(array), minidl.from_numpy(array)
    array[0] = 1
    assert copied.tolist() == [0.0, 0.0] and shared.tolist() == same.tolist() == [1.0, 0.0]
    assert minidl.as_tensor(shared) is shared and minidl.as_tensor(shared, dtype=minidl.float64).dtype == minidl.float64
    assert minidl.tensor([[minidl.tensor(1.0), 2], [3, minidl.tensor(4)]]).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert minidl.tensor([1.0], requires_grad=True).requires_grad
    with pytest.raises(ShapeError, match="same length"):
        minidl.tensor([[1, 2], [3]])
    with pytest.raises(TypeError, match="numbers are needed"):
        minidl.tensor(["a"])
    with pytest.raises(TypeError, match="from_numpy: a NumPy array"):
        minidl.from_numpy([1])
    with pytest.raises(TypeError, match="int64"):
        minidl.tensor([1], requires_grad=True)


@pytest.mark.parametrize("make", [minidl.zeros, minidl.ones, minidl.empty, minidl.rand, minidl.randn])
def test_sizes_dtype_and_requires_grad(make):
    for x in (make(2, 3), make((2, 3)), make([2, 3])):
        assert x.shape == (2, 3) and x.dtype == minidl.float32 and not x.requires_grad
    x = make(2, dtype=minidl.float64, device="cpu", requires_grad=True)
    assert x.dtype == minidl.float64 and x.requires_grad and make(()).shape == ()
    assert make(2, dtype=minidl.float16).dtype == minidl.float16


def test_like_functions_take_shape_and_dtype():
    x = minidl.ones(2, 3, dtype=minidl.float64, requires_grad=True)
    for name in ("zeros_like", "ones_like", "empty_like", "rand_like", "randn_like"):
        y = getattr(minidl, name)(x)
        assert (y.shape, y.dtype, y.requires_grad) == (x.shape, x.dtype, False)
    assert minidl.full_like(x, 7).tolist() == [[7.0] * 3] * 2
    assert minidl.zeros_like(x, dtype=minidl.long).dtype == minidl.int64


DRAWS = {
    "rand": lambda g: minidl.rand(5, generator=g), "randn": lambda g: minidl.randn(5, generator=g),
    "randint": lambda g: minidl.randint(2, 9, (50,), generator=g),
    "randperm": lambda g: minidl.randperm(9, generator=g),
    "rand_like": lambda g: minidl.rand_like(minidl.zeros(5), generator=g),
    "normal": lambda g: minidl.normal(minidl.zeros(5), 1.0, generator=g),
    "bernoulli": lambda g: minidl.bernoulli(minidl.full((50,), 0.5), generator=g),
    "multinomial": lambda g: minidl.multinomial(minidl.ones(9), 4, generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_repeat_with_the_seed_and_with_either_kind_of_generator(name):
    draw = DRAWS[name]
    own = draw(minidl.Generator().manual_seed(3))
    assert minidl.equal(own, draw(np.random.default_rng(3))) and not minidl.equal(own, draw(np.random.default_rng(4)))
    minidl.manual_seed(3)
    assert minidl.equal(own, draw(None)) and not minidl.equal(own, draw(None))


def test_what_is_drawn_has_the_right_range_and_weights():
    drawn = minidl.randint(2, 5, (1000,), generator=np.random.default_rng(0))
    assert set(drawn.tolist()) == {2, 3, 4} and drawn.dtype == minidl.int64
    assert minidl.randint(3, (4,)).max().item() < 3
    assert sorted(minidl.randperm(6).tolist()) == list(range(6))
    counts = np.bincount(minidl.multinomial(minidl.tensor([1.0, 0.0, 3.0]), 4000, replacement=True,
                                            generator=np.random.default_rng(0)).numpy(), minlength=3)
    assert counts[1] == 0 and abs(counts[2] / counts[0] - 3) < 0.4
    rows = minidl.multinomial(minidl.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]), 2)
    assert sorted(rows[0].tolist()) == [1, 2] and sorted(rows[1].tolist()) == [0, 2]
    for weights, count in (([-1.0, 2.0], 1), ([0.0, 1.0], 2), ([np.nan, 1.0], 1), ([0.0, 0.0], 1)):
        with pytest.raises(ValueError, match="multinomial"):
            minidl.multinomial(minidl.tensor(weights), count)


def test_generator_state_can_be_kept_and_restored():
    generator = minidl.Generator().manual_seed(1)
    state = generator.get_state()
    first = minidl.rand(3, generator=generator)
    generator.set_state(state)
    assert minidl.equal(first, minidl.rand(3, generator=generator))
    assert isinstance(generator, np.random.Generator)


def test_grad_gives_gradients_of_leaves_and_of_results_without_touching_grad():
    x = minidl.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    z = (y * minidl.tensor([3.0, 4.0])).sum()
    of_x, of_y = minidl.grad(z, [x, y], retain_graph=True)
    assert of_x.tolist() == [6.0, 16.0] and of_y.tolist() == [3.0, 4.0] and x.grad is None
    (of_z,) = minidl.autograd.grad(z, z, retain_graph=True)
    assert of_z.item() == 1.0
    (weighed,) = minidl.grad([y, z], x, [minidl.tensor([1.0, 0.0]), None])
    assert weighed.tolist() == [8.0, 16.0]
    with pytest.raises(RuntimeError, match="retain_graph"):
        minidl.grad(z, x)


def test_grad_refuses_what_has_no_gradient():
    x, unused = minidl.ones(2, requires_grad=True), minidl.ones(2, requires_grad=True)
    y = (x * 2).sum()
    with pytest.raises(RuntimeError, match="not used"):
        minidl.grad(y, [x, unused], retain_graph=True)
    assert minidl.grad(y, [x, unused], retain_graph=True, allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        minidl.grad(y, minidl.ones(2))
    with pytest.raises(RuntimeError, match="grad_outputs"):
        minidl.grad([x * 2, y], x)
    with pytest.raises(ValueError, match="1 grad_outputs for 2 outputs"):
        minidl.grad([y, y], x, [None])


def test_gradients_from_grad_do_not_share_memory():
    x = minidl.ones(2, requires_grad=True)
    y = x + 0
    arriving = minidl.ones(2)
    of_x, of_y = minidl.grad(y + 0, [x, y], arriving)
    of_x[0], of_y[0] = 5.0, 6.0
    assert (of_x.tolist(), of_y.tolist(), arriving.tolist()) == ([5.0, 1.0], [6.0, 1.0], [1.0, 1.0])


def test_the_loader_takes_a_generator_made_as_in_pytorch():
    data = minidl.data.TensorDataset(minidl.arange(20))
    orders = [[batch[0].tolist() for batch in minidl.data.DataLoader(
        data, batch_size=5, shuffle=True, generator=minidl.Generator().manual_seed(seed))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
