"""NaN and infinity pass through every kernel of the contract: nothing that a kernel reads may vanish in it.

For each kernel a call, and each floating-point argument in turn gets a NaN at its first, a middle or its last place.
The reference must show it, and the compiled kernel must not be finite where the reference is not. The same with Inf,
which may vanish in the reference (sigmoid of it is 1) but nowhere else.
"""

import numpy as np
import pytest

from minidl import kernels
from minidl.kernels import backend_module

WITHOUT = {  # kernels that read no floating-point numbers
    "attention_dropout_mask": "a hash of seed and place",
    "dropout_mask": "drawn from a generator",
    "scale_bytes": "bytes have no NaN",
}
SELECTORS = {  # arguments that only say where g passes
    ("relu_grad", "y"): "g where y > 0, else 0",
    ("leaky_relu_grad", "x"): "g where x > 0, else negative_slope g",
}
LIMITS = {  # where Inf makes the reference multiply it by 0, the compiled kernel may have the limit, or what is near it
    "gelu_grad": "1 or 0, as of large x",
    "gru": "sigmoid(-inf) is 0 in the reference and 1e-38 here",
    "lstm": "sigmoid(-inf) is 0 in the reference and 1e-38 here",
}
PLACES = {  # of arguments that are not read to their end: the states behind those of the steps, and those before none
    ("rnn_grad", "states"): (0, 200, 399),
    ("gru_grad", "states"): (0, 100, 213),
}
CALLS: dict[str, list] = {}
random = np.random.default_rng(0)


def n(*shape):
    return np.asarray(random.standard_normal(shape), np.float32)


def u(*shape):
    return np.asarray(random.uniform(0.1, 0.9, shape), np.float32)


def call(name, function=lambda kernel, *arrays: kernel(*arrays), **arrays):
    CALLS.setdefault(name, []).append((function, arrays))


def elementwise(name, *options, **arrays):
    call(name, lambda kernel, *given: kernel(*given, *options), **arrays)


REFERENCE, CPU = backend_module("reference"), backend_module("cpu")
X, G, Y = n(40, 50), n(40, 50), u(40, 50)
for name in ("relu", "sigmoid", "tanh", "silu", "erf"):
    call(name, x=X)
for name in ("relu_grad", "sigmoid_grad", "tanh_grad"):
    call(name, g=G, y=Y)
for name in ("silu_grad", "erf_grad"):
    call(name, g=G, x=X)
for name, options in [("leaky_relu", (0.1,)), ("elu", (1.5,)), ("softplus", (1.0, 20.0)), ("gelu", ("none",)),
                      ("gelu", ("tanh",))]:
    elementwise(name, *options, x=X)
    elementwise(f"{name}_grad", *options, g=G, x=X)

Q, K, V = n(2, 7, 3, 8), n(2, 9, 3, 8), n(2, 9, 3, 5)
MASK, REST = n(7, 9), (None, 0.3, 0.0, 0)


def attention(kernel, query, key, value, mask):
    output = np.full((2, 7, 3, 5), 7, np.float32)
    return output, kernel(output, query, key, value, mask, *REST)


def attention_grad(kernel, g, query, key, value, output, logsumexp, mask):
    grads = [np.full_like(array, 7) for array in (query, key, value)]
    kernel(*grads, g, query, key, value, output, logsumexp, mask, *REST)
    return grads


OUT, LSE = attention(REFERENCE.attention, Q, K, V, MASK)
KEPT = dict(g=n(2, 7, 3, 5), query=Q, key=K, value=V, output=OUT, logsumexp=LSE, mask=MASK)
call("attention", attention, query=Q, key=K, value=V, mask=MASK)
call("attention_grad", attention_grad, **KEPT)
call("attention_grad_mask", lambda kernel, *given: kernel(*given, *REST), **KEPT)

CONV = [((4, 9, 11), (6, 4, 3, 3), dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)),
        ((4, 9, 11), (6, 2, 3, 3), dict(stride=(1, 1), padding=(0, 1), dilation=(1, 2), groups=2)),
        ((4, 9, 11), (4, 1, 3, 3), dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=4)),
        ((20, 9, 11), (40, 20, 1, 1), dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1))]
for image, shape, options in CONV:
    x, weight = n(2, *image), n(*shape)
    g = n(*REFERENCE.conv2d(x, weight, **options).shape)
    for relu in (False, True):
        call("conv2d", lambda kernel, *given, o=options, r=relu: kernel(*given, **o, relu=r),
             x=x, weight=weight, bias=n(shape[0]))
    call("conv2d_grad_input", lambda kernel, *given, o=options: kernel(*given, (9, 11), **o), g=g, weight=weight)
    call("conv2d_grad_weight", lambda kernel, *given, o=options, k=shape[2:]: kernel(*given, k, **o), g=g, x=x)
    call("conv2d_grad_bias", g=g)

KEEP = np.arange(2000).reshape(40, 50) % 7 != 3  # True at the places that are spoilt
call("dropout", lambda kernel, x: kernel(x, KEEP, 0.3), x=X)
ROWS = np.arange(40)[::-1].copy()
call("embedding", lambda kernel, weight: kernel(weight, ROWS), weight=X)
call("embedding_grad", lambda kernel, g: kernel(g, ROWS // 3, 40), g=G)

IMAGES, CORNER = n(4, 3, 10, 12), np.ones(4, np.int64)
for vertical in (False, True):
    call("flip_images", lambda kernel, images, v=vertical: kernel(images, np.arange(4) > 1, vertical=v), images=IMAGES)
call("crop_images", lambda kernel, images: kernel(images, CORNER, CORNER, size=(10, 12), padding=1, fill=0.0),
     images=IMAGES)
call("normalize_images", images=IMAGES, mean=n(3), std=u(3))

call("matmul", x=n(33, 70), y=n(70, 41))
call("matmul", x=n(3, 120, 130), y=n(3, 130, 140))
for relu in (False, True):
    call("linear", lambda kernel, *given, r=relu: kernel(*given, relu=r), x=n(33, 70), weight=n(41, 70), bias=n(41))
call("linear_grad_input", g=n(33, 41), weight=n(41, 70))
call("linear_grad_weight", g=n(33, 41), x=n(33, 70))



def added(losses, normalizers, total, counted):
    """What cross_entropy gives, with the two normalizers added up, as its gradient uses them."""
    return losses, normalizers.sum(axis=0), total, counted


TARGET = np.zeros(40, np.int64)
TARGET[1], TARGET[-1] = 6, 11  # so that the places that are spoilt, and all three classes, are asked for
LOGITS, WEIGHT, ONE = n(40, 12), u(12), np.full((), 0.7, np.float32)
for smoothing in (0.0, 0.1):
    kept = REFERENCE.cross_entropy(LOGITS, TARGET, WEIGHT, label_smoothing=smoothing)[1]
    call("cross_entropy", lambda kernel, x, w, s=smoothing: added(*kernel(x, TARGET, w, label_smoothing=s)),
         logits=LOGITS, weight=WEIGHT)
    call("cross_entropy_grad", lambda kernel, g, x, z, w, s=smoothing: kernel(g, x, TARGET, z, w, label_smoothing=s),
         g=ONE, logits=LOGITS, normalizers=kept, weight=WEIGHT)
SOFT = u(40, 12)
LOG_P = REFERENCE.log_softmax(LOGITS, 1)
call("soft_cross_entropy", logits=LOGITS, target=SOFT, weight=WEIGHT)
call("soft_cross_entropy_grad_input", g=n(40), target=SOFT, log_p=LOG_P, weight=WEIGHT)
call("soft_cross_entropy_grad_target", g=n(40), log_p=LOG_P, weight=WEIGHT)
call("nll_loss", lambda kernel, log_p, w: kernel(log_p, TARGET, w), log_p=LOG_P, weight=WEIGHT)
call("nll_loss_grad", lambda kernel, g, w: kernel(g, TARGET, 12, w), g=ONE, weight=WEIGHT)
P, T, W = u(40, 50), u(40, 50), u(40, 50)
for total in (False, True):
    call("binary_cross_entropy", lambda kernel, p, t, w, total=total: kernel(p, t, w, total), p=P, target=T, weight=W)
    call("binary_cross_entropy_with_logits", lambda kernel, x, t, w, v, total=total: kernel(x, t, w, v, total),
         x=X, target=T, weight=W, pos_weight=Y)
    for name, options in [("mse_loss", ()), ("l1_loss", ()), ("smooth_l1_loss", (0.7,)), ("huber_loss", (1.3,))]:
        elementwise(name, *options, total, x=X, y=Y)
for name, options in [("mse_loss", ()), ("l1_loss", ()), ("smooth_l1_loss", (0.7,)), ("huber_loss", (1.3,))]:
    elementwise(f"{name}_grad", *options, g=G, x=X, y=Y)
    elementwise(f"{name}_grad", *options, g=ONE, x=X, y=Y)
call("binary_cross_entropy_grad_input", g=G, p=P, target=T, weight=W)
call("binary_cross_entropy_grad_target", g=G, p=P, weight=W)
call("binary_cross_entropy_with_logits_grad_input", g=G, x=X, target=T, weight=W, pos_weight=Y)
call("binary_cross_entropy_with_logits_grad_target", g=G, x=X, weight=W, pos_weight=Y)

MAPS, SCALE, SHIFT = n(4, 6, 9, 10), u(6), n(6)
_, MEAN, VARIANCE = REFERENCE.batch_norm(MAPS, SCALE, SHIFT, 1e-5)
elementwise("batch_norm", 1e-5, x=MAPS, weight=SCALE, bias=SHIFT)
elementwise("batch_norm_grad", 1e-5, g=n(4, 6, 9, 10), x=MAPS, weight=SCALE, mean=MEAN, variance=VARIANCE)
elementwise("batch_norm_inference", 1e-5, x=MAPS, weight=SCALE, bias=SHIFT, mean=MEAN, variance=VARIANCE)
elementwise("batch_norm_inference_grad_input", 1e-5, g=n(4, 6, 9, 10), weight=SCALE, variance=VARIANCE)
elementwise("batch_norm_inference_grad_weight", 1e-5, g=n(4, 6, 9, 10), x=MAPS, mean=MEAN, variance=VARIANCE)
_, mean, variance = REFERENCE.layer_norm(X, u(50), n(50), 1e-5)
elementwise("layer_norm", 1e-5, x=X, weight=u(50), bias=n(50))
elementwise("layer_norm_grad", 1e-5, g=G, x=X, weight=u(50), mean=mean, variance=variance)
_, mean, variance = REFERENCE.group_norm(MAPS, 2, SCALE, SHIFT, 1e-5)
call("group_norm", lambda kernel, x, w, b: kernel(x, 2, w, b, 1e-5), x=MAPS, weight=SCALE, bias=SHIFT)
call("group_norm_grad", lambda kernel, g, x, w, m, v: kernel(g, x, 2, w, m, v, 1e-5),
     g=n(4, 6, 9, 10), x=MAPS, weight=SCALE, mean=mean, variance=variance)


def step(**options):
    def run(kernel, *given):
        kernel(*([array] for array in given), **options)  # on copies: see `outputs`
        return [given[0], *given[2:]]

    return run


SGD = dict(lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01, nesterov=False, maximize=False)
ADAM = dict(step=3, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.01, decoupled_weight_decay=False,
            maximize=False)
RMSPROP = dict(lr=0.1, alpha=0.9, eps=1e-8, momentum=0.5, weight_decay=0.01, maximize=False)
call("sgd_step", step(**SGD), parameter=X, gradient=G, momentum_buffer=Y)
call("sgd_step", step(**SGD | {"momentum": 0.0}), parameter=X, gradient=G)
call("adam_step", step(**ADAM), parameter=X, gradient=G, exp_avg=Y, exp_avg_sq=P)
call("adam_step", step(**ADAM), parameter=X, gradient=G, exp_avg=Y, exp_avg_sq=P, max_exp_avg_sq=T)
call("rmsprop_step", step(**RMSPROP), parameter=X, gradient=G, square_avg=1 + Y, momentum_buffer=P, grad_avg=T / 2)

WINDOW = dict(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))
for options in (WINDOW, dict(kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))):
    largest = options | {"dilation": (1, 1)}
    y, winners = REFERENCE.max_pool2d(IMAGES, **largest, ceil_mode=False)
    averages = options | {"count_include_pad": True, "divisor_override": None}
    call("max_pool2d", lambda kernel, x, o=largest: kernel(x, **o, ceil_mode=False), x=IMAGES)
    call("max_pool2d_grad", lambda kernel, g, o=largest, w=winners: kernel(g, w, (10, 12), **o), g=n(*y.shape))
    call("avg_pool2d", lambda kernel, x, o=averages: kernel(x, **o, ceil_mode=False), x=IMAGES)
    call("avg_pool2d_grad", lambda kernel, g, o=averages: kernel(g, (10, 12), **o), g=n(*y.shape))
for size in ((1, 1), (3, 5)):
    winners = REFERENCE.adaptive_max_pool2d(IMAGES, output_size=size)[1]
    call("adaptive_avg_pool2d", lambda kernel, x, s=size: kernel(x, output_size=s), x=IMAGES)
    call("adaptive_max_pool2d", lambda kernel, x, s=size: kernel(x, output_size=s), x=IMAGES)
    call("adaptive_avg_pool2d_grad", lambda kernel, g: kernel(g, (10, 12)), g=n(4, 3, *size))
    call("adaptive_max_pool2d_grad", lambda kernel, g, w=winners: kernel(g, w, (10, 12)), g=n(4, 3, *size))

for name in ("upsample_nearest2d", "upsample_bilinear2d"):
    options = dict(step=(0.5, 0.5), **({"exact": False} if "nearest" in name else {"align_corners": False}))
    call(name, lambda kernel, x, o=options: kernel(x, size=(20, 24), **o), x=IMAGES)
    call(f"{name}_grad", lambda kernel, g, o=options: kernel(g, (10, 12), **o), g=n(4, 3, 20, 24))

STEPS, WIDTH = np.array([9, 9, 5, 2]), 16
ROWS_, H0, C0 = int(STEPS.sum()), n(9, WIDTH), n(9, WIDTH)
for kind in ("tanh", "relu"):
    weight = n(WIDTH, WIDTH) / 4
    states = REFERENCE.rnn(n(ROWS_, WIDTH), H0, weight, STEPS, kind, False)
    elementwise("rnn", STEPS, kind, False, inputs=1 + u(ROWS_, WIDTH), h0=u(9, WIDTH), weight_hh=np.abs(weight))
    if kind == "tanh":
        elementwise("rnn_grad", STEPS, kind, False, g=n(*states.shape), states=states, weight_hh=weight)
    else:  # of relu, the states only say where g passes: here, everywhere
        positive = np.abs(states) + np.float32(0.1)
        call("rnn_grad", lambda kernel, g, w, s=positive: kernel(g, s, w, STEPS, "relu", False),
             g=n(*states.shape), weight_hh=weight)
GATES, W_LSTM = n(ROWS_, 4 * WIDTH), n(4 * WIDTH, WIDTH) / 4
elementwise("lstm", STEPS, False, gates=GATES, h0=H0, c0=C0, weight_hh=W_LSTM)
left = GATES.copy()
states, cells = REFERENCE.lstm(left, H0, C0, W_LSTM, STEPS, False)
elementwise("lstm_grad", STEPS, False, g=n(*states.shape), gates=left, cells=cells, c0=C0, weight_hh=W_LSTM)
GATES, W_GRU, BIAS = n(ROWS_, 3 * WIDTH), n(3 * WIDTH, WIDTH) / 4, n(WIDTH)
elementwise("gru", STEPS, False, gates=GATES, h0=H0, weight_hh=W_GRU, bias_hn=BIAS)
left = GATES.copy()
states, inner = REFERENCE.gru(left, H0, W_GRU, BIAS, STEPS, False)
elementwise("gru_grad", STEPS, False, g=n(*states.shape), gates=left, inner=inner, states=states, h0=H0,
            weight_hh=W_GRU)

for dim in (0, 1):
    y = REFERENCE.logsumexp(X, dim)
    for name in ("softmax", "log_softmax"):
        elementwise(name, dim, x=X)
        elementwise(f"{name}_grad", dim, g=G, y=getattr(REFERENCE, name)(X, dim))
    elementwise("logsumexp", dim, x=X)
    call("logsumexp_grad", g=n(*y.shape), x=X, y=y)


def outputs(backend, name, function, arrays):
    """All floating-point results of a call on copies, in one row; a kernel without a compiled version falls back."""
    kernel = getattr(backend, name, None) or getattr(REFERENCE, name)
    with np.errstate(all="ignore"):
        results = function(kernel, *(array.copy() for array in arrays.values()))
    results = results if isinstance(results, (tuple, list)) else (results,)
    results = [np.asarray(result).ravel() for result in results]
    return np.concatenate([result for result in results if result.dtype.kind == "f"])


def spoilt(arrays, argument, place, number):
    changed = arrays[argument].copy()
    changed.reshape(-1)[place] = number
    return {**arrays, argument: changed}


def test_every_kernel_has_a_call_or_a_reason():
    assert {*CALLS, *WITHOUT} == set(kernels.CONTRACT) and not {*CALLS} & {*WITHOUT}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_nothing_vanishes(name):
    for function, arrays in CALLS[name]:
        assert np.isfinite(outputs(CPU, name, function, arrays)).all()
        for argument, array in arrays.items():
            for place in PLACES.get((name, argument), sorted({0, array.size // 2, array.size - 1})):
                for number in (np.nan, np.inf, -np.inf):
                    given = spoilt(arrays, argument, place, number)
                    expected = outputs(REFERENCE, name, function, given)
                    lost = ~np.isfinite(expected) if np.isnan(number) or name not in LIMITS else np.isinf(expected)
                    where = f"{argument} with {number} at {place} of {array.size}"
                    if np.isnan(number) and (name, argument) not in SELECTORS:
                        assert lost.any(), f"the reference loses it: {where}"
                    ours = outputs(CPU, name, function, given)
                    assert not np.isfinite(ours[lost]).any(), f"the compiled kernel loses it: {where}"
