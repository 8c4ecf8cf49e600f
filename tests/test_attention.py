"""Attention layers: against PyTorch with every mask, step by step with a cache, dropout, files, bad input."""

from pathlib import Path

import numpy as np
import pytest
from attention_cases import ATTENTIONS, ENCODERS, HEADS, E, L, S, inputs, masks, numbers, parameters

import minidl
import minidl.nn.functional as F
from minidl import nn, ops, transfer
from minidl.errors import ShapeError
from minidl.tensor import Tensor

GOLDEN = np.load(Path(__file__).with_name("golden") / "attention.npz")
both_dtypes = pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)],
                                      ids=["float64", "float32"])


def filled(name, layer):
    shapes = {key: value.shape for key, value in layer.state_dict().items()}
    dtype = next(layer.parameters()).dtype
    layer.load_state_dict({key: value.astype(dtype) for key, value in parameters(name, shapes).items()})
    return layer


def compare(prefix, values, dtype, tolerance):
    assert {f"{prefix}/{key}" for key in values} == {key for key in GOLDEN.files if key.startswith(f"{prefix}/")}
    for key, value in values.items():
        expected = GOLDEN[f"{prefix}/{key}"]
        assert value.dtype == dtype and value.shape == expected.shape, key
        largest = np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * max(largest, 1e-2), err_msg=key)


def gradients(layer, arrays, output, dtype):
    output.backward(Tensor(numbers("gradient", 0, output.shape).astype(dtype)))
    values = {f"input{index}": x.grad.numpy() for index, x in enumerate(arrays)}
    return values | {key: value.grad.numpy() for key, value in layer.named_parameters()}


@both_dtypes
@pytest.mark.parametrize("name", ATTENTIONS)
def test_multihead_attention_follows_pytorch(name, dtype, tolerance):
    options, which, call = ATTENTIONS[name]
    layer = filled(name, nn.MultiheadAttention(E, HEADS, dtype=dtype, **options))
    arrays = [Tensor(x.astype(dtype), requires_grad=True) for x in inputs(name, options)]
    given = {key: mask if mask.dtype == bool else mask.astype(dtype)
             for key, mask in masks(name, which, L if len(arrays) == 1 else S).items()}
    output, weights = layer(*(arrays * 3 if len(arrays) == 1 else arrays), **given, **call)
    values = {"output": output.numpy()} | ({} if weights is None else {"weights": weights.numpy()})
    compare(f"attention/{name}", values | gradients(layer, arrays, output, dtype), dtype, tolerance)


@both_dtypes
@pytest.mark.parametrize("name", ENCODERS)
def test_transformer_encoder_follows_pytorch(name, dtype, tolerance):
    options, which = ENCODERS[name]
    stack = filled(name, encoder(options, dtype))
    x = Tensor(inputs(name, options)[0].astype(dtype), requires_grad=True)
    given = masks(name, which, L)
    output = stack(x, given.get("attn_mask"), given.get("key_padding_mask"))
    values = {"output": output.numpy()} | gradients(stack, [x], output, dtype)
    compare(f"encoder/{name}", values, dtype, tolerance)


def encoder(options, dtype=np.float32, dropout=0.0):
    layer = nn.TransformerEncoderLayer(E, HEADS, 12, dropout=dropout, dtype=dtype, **options)
    return nn.TransformerEncoder(layer, 2, nn.LayerNorm(E, dtype=dtype) if options.get("norm_first") else None)


@pytest.mark.parametrize("call", [{}, {"average_attn_weights": False}], ids=["mean", "per-head"])
def test_output_with_weights_is_that_without(call):
    layer = nn.MultiheadAttention(E, HEADS, batch_first=True)
    x = Tensor(numbers("x", 0, (2, L, E)).astype(np.float32))
    options = {"key_padding_mask": np.arange(L) >= np.array([[L], [3]]), "is_causal": True}
    with_weights, weights = layer(x, x, x, **options, **call)
    without, none = layer(x, x, x, need_weights=False, **options)
    assert none is None
    np.testing.assert_allclose(with_weights.numpy(), without.numpy(), atol=1e-6)
    np.testing.assert_allclose(weights.numpy().sum(axis=-1), 1, atol=1e-6)
    assert not np.triu(weights.numpy(), 1).any() and not weights.numpy()[1, ..., 3:].any()


def test_a_causal_mask_is_recognised_and_is_the_same_as_is_causal():
    stack, x = encoder({"batch_first": True}), Tensor(numbers("x", 1, (2, L, E)).astype(np.float32))
    later = ~np.tri(L, dtype=bool)
    expected = stack(x, is_causal=True).numpy()
    for mask in (later, np.where(later, -np.inf, 0).astype(np.float32)):
        np.testing.assert_array_equal(stack(x, mask).numpy(), expected)
        np.testing.assert_allclose(stack.layers[1](stack.layers[0](x, mask), mask).numpy(), expected, atol=1e-6)
    assert np.abs(stack(x, later & (np.arange(L) > 1)).numpy() - expected).max() > 1e-3


@pytest.mark.parametrize("options", [{"batch_first": True}, {"norm_first": True}], ids=["batch-first", "length-first"])
def test_step_by_step_with_a_cache_is_the_whole_sequence(options):
    length, turned = 9, not options.get("batch_first")
    stack, x = encoder(options, dropout=0.3).eval(), numbers("x", 2, (3, length, E)).astype(np.float32)
    caches = [nn.KeyValueCache(3, length, E) for _ in range(2)]

    def run(part, **given):
        y = stack(Tensor(part.swapaxes(0, 1) if turned else part), is_causal=True, **given).numpy()
        return y.swapaxes(0, 1) if turned else y

    whole = run(x)
    for _ in range(2):
        with minidl.no_grad():
            pieces = [run(x[:, a:b], cache=caches) for a, b in [(0, 4), (4, 5), (5, 8), (8, 9)]]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=2e-6)
        with pytest.raises(ShapeError, match=r"layers\.0\.self_attn .*9 steps are held, 1 more do not fit .* = 9"):
            with minidl.no_grad():
                run(x[:, :1], cache=caches)
        for cache in caches:
            cache.reset()
    with pytest.raises(RuntimeError, match="no_grad"):
        run(x, cache=caches)
    with pytest.raises(ValueError, match="1 caches for 2 layers"):
        run(x, cache=caches[:1])
    with pytest.raises(ShapeError, match=r"key has shape \(2, 1, 8\).* N = 3"):
        caches[0].append(np.zeros((2, 1, 8)), np.zeros((2, 1, 8)))


def test_packed_and_separate_and_transposed_heads_give_the_same():
    qkv = Tensor(numbers("qkv", 0, (2, 70, 3 * 64)).astype(np.float32), requires_grad=True)
    g = Tensor(numbers("g", 0, (2, 70, 64)).astype(np.float32))

    def separate(qkv):
        return ops.multi_head_attention(*ops.chunk(qkv, 3, dim=2), num_heads=4, is_causal=True)

    def transposed(qkv):
        q, k, v = (ops.transpose(ops.unflatten(x, 2, (4, 16)), 1, 2) for x in ops.chunk(qkv, 3, dim=2))
        return ops.flatten(ops.transpose(F.scaled_dot_product_attention(q, k, v, is_causal=True), 1, 2), 2)

    results = []
    for attend in (lambda qkv: ops.packed_attention(qkv, num_heads=4, is_causal=True), separate, transposed):
        qkv.grad = None
        y = attend(qkv)
        y.backward(g)
        results.append((y.numpy(), qkv.grad.numpy()))
    for y, grad in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(grad, results[0][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_drops_weights_and_its_gradient_knows_which(dtype):
    """With values that are unit vectors, the output is the matrix of weights."""
    length, p = 200, 0.25
    rng = np.random.default_rng(0)
    q, k = (Tensor(rng.standard_normal((2, 3, length, 8)).astype(dtype), requires_grad=True) for _ in range(2))
    v = Tensor(np.broadcast_to(np.eye(length, dtype=dtype), (2, 3, length, length)).copy(), requires_grad=True)
    minidl.seed(0)
    left = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
    whole = F.scaled_dot_product_attention(q, k, v).numpy()
    kept = left.numpy() != 0
    assert abs(kept.mean() - (1 - p)) < 0.005
    assert np.abs(np.corrcoef(kept.reshape(6, -1)) - np.eye(6)).max() < 0.03  # heads are independent
    assert np.abs(kept.mean(axis=(0, 1, 2)) - (1 - p)).max() < 0.06  # of the place, too
    np.testing.assert_allclose(left.numpy()[kept], whole[kept] / (1 - p), rtol=1e-5)

    g = rng.standard_normal(left.shape).astype(dtype)
    left.backward(Tensor(g))
    grad_weights = g * kept / (1 - p)
    grad_scores = whole * (grad_weights - (whole * grad_weights).sum(axis=-1, keepdims=True)) / 8**0.5
    close = dict(rtol=0, atol=1e-5)
    np.testing.assert_allclose(q.grad.numpy(), grad_scores @ k.numpy(), **close)
    np.testing.assert_allclose(k.grad.numpy(), grad_scores.swapaxes(2, 3) @ q.numpy(), **close)
    np.testing.assert_allclose(v.grad.numpy(), left.numpy().swapaxes(2, 3) @ g, **close)


def test_dropout_follows_the_seed_and_is_absent_in_evaluation():
    layer = nn.MultiheadAttention(E, HEADS, dropout=0.5, batch_first=True)
    x = Tensor(numbers("x", 3, (2, L, E)).astype(np.float32))

    def run():
        return layer(x, x, x, need_weights=False)[0].numpy()

    minidl.seed(1)
    first, second = run(), run()
    minidl.seed(1)
    np.testing.assert_array_equal(run(), first)
    assert (first != second).any()
    own = np.random.default_rng(5), np.random.default_rng(5)
    drawn = [F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, generator=generator).numpy() for generator in own]
    np.testing.assert_array_equal(*drawn)
    layer.eval()
    np.testing.assert_array_equal(run(), run())


def test_weights_start_as_in_pytorch():
    """Xavier over the three projections together, or each alone; the output projection as any Linear; biases 0."""
    minidl.seed(0)
    layer = nn.MultiheadAttention(64, 4)
    assert 0.97 < np.abs(layer.in_proj_weight.numpy()).max() / (6 / (4 * 64)) ** 0.5 <= 1
    assert 0.97 < np.abs(layer.out_proj.weight.numpy()).max() / (1 / 64) ** 0.5 <= 1
    assert not layer.in_proj_bias.numpy().any() and not layer.out_proj.bias.numpy().any()
    other = nn.MultiheadAttention(64, 4, kdim=32)
    assert other.in_proj_weight is None and other.v_proj_weight.shape == (64, 64)
    assert 0.97 < np.abs(other.k_proj_weight.numpy()).max() / (6 / (64 + 32)) ** 0.5 <= 1
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2), 3)
    assert len(stack.layers) == 3 and "layers.2.self_attn.in_proj_weight" in stack.state_dict()
    for key, value in stack.layers[0].state_dict().items():
        np.testing.assert_array_equal(value.numpy(), stack.layers[2].state_dict()[key].numpy())


def network():
    return nn.Sequential(
        nn.SinusoidalPosition(E, 40), nn.LearnedPosition(E, 30), encoder({"batch_first": True, "activation": "gelu"}),
        encoder({"norm_first": True, "bias": False}), nn.Linear(E, 2))


def test_saved_and_loaded_without_the_classes_at_hand(tmp_path):
    model = network().eval()
    transfer.save(model, tmp_path / "model.safetensors")
    again = transfer.load(tmp_path / "model.safetensors").eval()
    x = Tensor(numbers("x", 4, (2, L, E)).astype(np.float32))
    np.testing.assert_array_equal(again(x).numpy(), model(x).numpy())
    assert transfer.structure(again) == transfer.structure(model)
    attention = nn.MultiheadAttention(8, 2, kdim=4, bias=False, batch_first=True)
    built = transfer.build(transfer.structure(attention))
    assert built.config() == attention.config() and built.k_proj_weight.shape == (8, 4) and built.in_proj_bias is None


def test_summary_shows_the_attention_of_each_layer():
    text = network().summary((L, E))
    rows = [line for line in text.splitlines() if "MultiheadAttention" in line]
    assert len(rows) == 4 and all(f"(N, {L}, {E})" in row for row in rows)


def test_positions():
    x = numbers("x", 5, (2, 7, 6))
    table = np.array([[f(t / 10000 ** (2 * i / 6)) for i in range(3) for f in (np.sin, np.cos)] for t in range(12)])
    layer = nn.SinusoidalPosition(6, 12)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), x + table[:7], atol=1e-12)
    np.testing.assert_allclose(layer(Tensor(x), start=5).numpy(), x + table[5:], atol=1e-12)
    turned = nn.SinusoidalPosition(6, 12, batch_first=False)(Tensor(x.astype(np.float32)))
    assert turned.dtype == np.float32
    np.testing.assert_allclose(turned.numpy(), x + table[:2, None], atol=1e-6)
    np.testing.assert_allclose(nn.SinusoidalPosition(5, 3)(Tensor(np.zeros((3, 5)))).numpy()[:, 4],
                               np.sin(np.arange(3) / 10000 ** 0.8))
    learned = nn.LearnedPosition(6, 12, dtype=np.float64)
    y = learned(Tensor(x), start=2)
    np.testing.assert_array_equal(y.numpy(), x + learned.weight.numpy()[2:9])
    y.backward(Tensor(x))
    np.testing.assert_array_equal(learned.weight.grad.numpy()[2:9], x.sum(axis=0))
    assert not learned.weight.grad.numpy()[[0, 1, 9, 10, 11]].any()


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


@pytest.mark.parametrize("call, error, message", [
    (lambda: nn.MultiheadAttention(10, 3), ValueError, "embed_dim 10 cannot be split into num_heads 3"),
    (lambda: nn.MultiheadAttention(8, 2, add_zero_attn=True), NotImplementedError, "add_zero_attn"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), ValueError, "'relu', 'gelu' .* not 'tanh'"),
    (lambda: nn.LearnedPosition(8, 4)(zeros(1, 5, 8)), ShapeError, "LearnedPosition.*0 to 4.*max_length = 4"),
    (lambda: nn.SinusoidalPosition(8, 4)(zeros(1, 3, 8), start=2), ShapeError, "2 to 4.*max_length = 4"),
    (lambda: nn.SinusoidalPosition(8, 4)(zeros(1, 3, 7)), ShapeError, r"8 features.*\(1, 3, 7\)"),
    (lambda: attend(zeros(2, 3, 8), zeros(2, 4, 8), zeros(2, 5, 8)), ShapeError,
     "MultiheadAttention.*4 keys and 5 values"),
    (lambda: attend(zeros(2, 3, 8), zeros(1, 4, 8), zeros(1, 4, 8)), ShapeError, "hold 2, 1 and 1 samples"),
    (lambda: attend(zeros(2, 3, 6), zeros(2, 4, 8), zeros(2, 4, 8)), ShapeError, "query has 6 features, 8"),
    (lambda: attend(zeros(3, 8), zeros(2, 4, 8), zeros(2, 4, 8)), ShapeError, "3 axes, or 2"),
    (lambda: attend(*[zeros(2, 3, 8)] * 3, attn_mask=np.zeros((2, 3), bool)), ShapeError,
     r"attn_mask has shape \(2, 3\), \(3, 3\) or \(4, 3, 3\)"),
    (lambda: attend(*[zeros(2, 3, 8)] * 3, key_padding_mask=np.zeros((3, 2), bool)), ShapeError,
     r"key_padding_mask has shape \(3, 2\), \(2, 3\)"),
    (lambda: attend(*[zeros(2, 3, 8)] * 3, attn_mask=np.zeros((3, 3), int)), TypeError, "attn_mask.*int64.*bool"),
    (lambda: F.scaled_dot_product_attention(zeros(4), zeros(4), zeros(4)), ShapeError, "at least 2 axes"),
    (lambda: F.scaled_dot_product_attention(zeros(2, 4), zeros(2, 3), zeros(2, 3)), ShapeError, "last axis"),
    (lambda: F.scaled_dot_product_attention(zeros(2, 4), zeros(2, 4), zeros(3, 4)), ShapeError, "differ in length"),
    (lambda: F.scaled_dot_product_attention(zeros(2, 1, 4), zeros(3, 2, 4), zeros(3, 2, 4)), ShapeError, "broadcast"),
    (lambda: sdpa(attn_mask=np.ones((2, 6), bool)), ShapeError, r"\(2, 6\).*\(2, 3, 5, 6\).*mask\[:, None, None, :\]"),
    (lambda: sdpa(attn_mask=np.ones((5, 6), bool), is_causal=True), ValueError, "is_causal=True"),
    (lambda: sdpa(attn_mask=np.ones((5, 6), int)), TypeError, "int64"),
    (lambda: sdpa(dropout_p=1.5), ValueError, "1.5"),
    (lambda: ops.packed_attention(zeros(2, 3, 10), num_heads=2), ShapeError, "side by side"),
    (lambda: ops.packed_attention(zeros(2, 3, 12), num_heads=3), ShapeError, "4 cannot be split into 3"),
    (lambda: ops.multi_head_attention(zeros(2, 3, 8), zeros(1, 3, 8), zeros(1, 3, 8)), ShapeError, "samples"),
])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def attend(query, key, value, **options):
    return nn.MultiheadAttention(8, 2, batch_first=True)(query, key, value, need_weights=False, **options)


def sdpa(**options):
    return F.scaled_dot_product_attention(zeros(2, 3, 5, 4), zeros(2, 3, 6, 4), zeros(2, 3, 6, 4), **options)


@pytest.mark.parametrize("shape, keys", [((2, 3, 0, 4), 5), ((2, 3, 5, 4), 0), ((0, 3, 5, 4), 5)], ids=str)
def test_nothing_to_attend_or_to_attend_to(shape, keys):
    q, k = Tensor(np.ones(shape, np.float32), requires_grad=True), zeros(*shape[:2], keys, 4)
    y = F.scaled_dot_product_attention(q, k, k)
    assert y.shape == shape and not y.numpy().any()
    y.backward(Tensor(np.ones(shape, np.float32)))
    assert q.grad.shape == shape and not q.grad.numpy().any()
