"""The contract of the kernels: every numerical routine once, with its signature and what it must compute.

Arrays in, arrays out; nothing here knows of gradients or modules. The plain NumPy versions in `reference/` specify
the results and are written to be read; a faster backend implements the same names. `dispatch.py` chooses.
`_grad` kernels take the gradient `g` of the result first and return the gradient of what their name says.
"""

from __future__ import annotations

from minidl.kernels.dispatch import BACKENDS, CONTRACT, backend_module, kernel, use_backend

__all__ = ["BACKENDS", "CONTRACT", "backend_module", "kernel", "use_backend"]


@kernel
def relu(x):
    """max(x, 0) at every element."""


@kernel
def relu_grad(g, y):
    """g where the result y = relu(x) is positive, else 0."""


@kernel
def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""


@kernel
def sigmoid_grad(g, y):
    """g y (1 - y), for y = sigmoid(x)."""


@kernel
def tanh(x):
    """(e^x - e^-x) / (e^x + e^-x)."""


@kernel
def tanh_grad(g, y):
    """g (1 - y^2), for y = tanh(x)."""


@kernel
def leaky_relu(x, negative_slope):
    """x where x > 0, else negative_slope x."""


@kernel
def leaky_relu_grad(g, x, negative_slope):
    """g where x > 0, else negative_slope g."""


@kernel
def elu(x, alpha):
    """x where x > 0, else alpha (e^x - 1)."""


@kernel
def elu_grad(g, x, alpha):
    """g where x > 0, else g alpha e^x."""


@kernel
def silu(x):
    """x sigmoid(x)."""


@kernel
def silu_grad(g, x):
    """g (s + x s (1 - s)), with s = sigmoid(x)."""


@kernel
def softplus(x, beta, threshold):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold; without overflow."""


@kernel
def softplus_grad(g, x, beta, threshold):
    """g sigmoid(beta x), and g itself where beta x > threshold."""


@kernel
def gelu(x, approximate):
    """x Phi(x) = x (1 + erf(x / sqrt 2)) / 2 for "none", x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 for "tanh"."""


@kernel
def gelu_grad(g, x, approximate):
    """g times the derivative of gelu(x, approximate)."""


@kernel
def erf(x):
    """The error function 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x, to within a few roundings."""


@kernel
def erf_grad(g, x):
    """g 2/sqrt(pi) e^(-x^2)."""


@kernel
def linear(x, weight, bias=None):
    """x @ weight^T + bias for x (..., I), weight (O, I), bias (O,): (..., O)."""


@kernel
def linear_grad_weight(g, x):
    """g^T @ x summed over all leading axes, for g (..., O) and x (..., I): (O, I)."""


@kernel
def sgd_step(parameter, gradient, momentum_buffer=None, *, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """One step of stochastic gradient descent, in place on parameter and momentum_buffer b (all of one shape).

    d = ±gradient + weight_decay parameter (minus to maximise); with a buffer: b <- momentum b + (1 - dampening) d
    and d <- d + momentum b (nesterov) or b; then parameter <- parameter - lr d.
    """


@kernel
def adam_step(parameter, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq=None, *, step, lr, beta1, beta2, eps,
              weight_decay, decoupled_weight_decay, maximize):
    """One step of Adam, the step-th (from 1), in place on parameter, averages m, v and largest v (AMSGrad).

    d = ±gradient + weight_decay parameter; decoupled: parameter <- (1 - lr weight_decay) parameter instead.
    m <- beta1 m + (1 - beta1) d; v <- beta2 v + (1 - beta2) d^2; with a largest v: that <- max(it, v), used for v;
    parameter <- parameter - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
    """


@kernel
def rmsprop_step(parameter, gradient, square_avg, momentum_buffer=None, grad_avg=None, *, lr, alpha, eps, momentum,
                 weight_decay, maximize):
    """One step of RMSprop, in place on parameter, square_avg v, momentum_buffer b and grad_avg m.

    d = ±gradient + weight_decay parameter; v <- alpha v + (1 - alpha) d^2; with m: m <- alpha m + (1 - alpha) d and
    v - m^2 is used for v; u = d / (sqrt(v) + eps); with a buffer: b <- momentum b + u, and b is used for u;
    parameter <- parameter - lr u.
    """


@kernel
def softmax(x, dim):
    """e^x / sum(e^x) along axis dim, without overflow."""


@kernel
def softmax_grad(g, y, dim):
    """y (g - sum(g y)) along axis dim, for y = softmax(x)."""


@kernel
def log_softmax(x, dim):
    """x - log(sum(e^x)) along axis dim, without overflow."""


@kernel
def log_softmax_grad(g, y, dim):
    """g - e^y sum(g) along axis dim, for y = log_softmax(x)."""


@kernel
def logsumexp(x, dim):
    """log(sum(e^x)) over axis or axes dim, which are kept with length 1; without overflow."""


@kernel
def logsumexp_grad(g, x, y):
    """g e^(x - y) for y = logsumexp(x), both g and y with the summed axes kept; 0 in a slice of -inf alone."""


@kernel
def batch_norm(x, weight, bias, eps):
    """Normalise each channel of x (N, C, ...) by its own mean and variance: (y, mean (C,), variance (C,)).

    y = (x - mean) / sqrt(variance + eps) * weight + bias; weight and bias (C,) may be None. The variance is the biased
    one, divided by the number of values per channel.
    """


@kernel
def batch_norm_grad(g, x, weight, mean, variance, eps):
    """The gradients of x, weight and bias of batch_norm; mean and variance are what it returned."""


@kernel
def batch_norm_inference(x, weight, bias, mean, variance, eps):
    """As batch_norm, by a given mean (C,) and variance (C,): only y."""


@kernel
def batch_norm_inference_grad_input(g, weight, variance, eps):
    """g weight / sqrt(variance + eps), per channel."""


@kernel
def batch_norm_inference_grad_weight(g, x, mean, variance, eps):
    """The sum of g (x - mean) / sqrt(variance + eps) per channel: (C,)."""


@kernel
def layer_norm(x, weight, bias, eps):
    """Normalise each row of x (R, M) by its own mean and variance: (y, mean (R,), variance (R,)).

    y = (x - mean) / sqrt(variance + eps) * weight + bias; weight and bias (M,) may be None.
    """


@kernel
def layer_norm_grad(g, x, weight, mean, variance, eps):
    """The gradients of x, weight and bias of layer_norm; mean and variance are what it returned."""


@kernel
def group_norm(x, num_groups, weight, bias, eps):
    """Normalise each group of C / num_groups channels of each sample of x (N, C, ...): (y, mean, variance).

    mean and variance have shape (N num_groups,); weight and bias (C,) may be None.
    """


@kernel
def group_norm_grad(g, x, num_groups, weight, mean, variance, eps):
    """The gradients of x, weight and bias of group_norm; mean and variance are what it returned."""


@kernel
def dropout_mask(shape, p, generator):
    """Booleans that are False with probability p each."""


@kernel
def dropout(x, mask, p):
    """x / (1 - p) where mask is True, else 0; mask broadcasts against x. Its gradient is itself, applied to g."""


@kernel
def embedding_grad(g, indices, num_embeddings, padding_idx=None):
    """Row i of the result (num_embeddings, D) is the sum of the g[k] with indices[k] == i; 0 for padding_idx.

    g (..., D), indices (...). The order of summation is fixed, so the result is the same in every run.
    """


@kernel
def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Cross-entropy of logits (N, C, ...) against class indices (N, ...): (losses (N, ...), peak, log_sum).

    -log softmax(logits)[target] weight[target], and 0 where target == ignore_index. With label smoothing s:
    (1 - s) times that, plus s / C times the sum of the same loss over all classes.
    log softmax(logits) = logits - peak - log_sum, both (N, 1, ...), which the gradient needs.
    """


@kernel
def cross_entropy_grad(g, logits, target, peak, log_sum, weight=None, ignore_index=-100, label_smoothing=0.0):
    """The gradient of the logits (N, C, ...) for g (N, ...); peak and log_sum are what cross_entropy returned."""


@kernel
def soft_cross_entropy(logits, target, weight=None, label_smoothing=0.0):
    """-sum over c of weight_c t_c log_p_c, with t = (1 - s) target + s / C: (losses (N, ...), log_p (N, C, ...)).

    log_p = log_softmax(logits); target (N, C, ...) holds class probabilities.
    """


@kernel
def soft_cross_entropy_grad_input(g, target, log_p, weight=None, label_smoothing=0.0):
    """The gradient of the logits (N, C, ...) for g (N, ...)."""


@kernel
def soft_cross_entropy_grad_target(g, log_p, weight=None, label_smoothing=0.0):
    """The gradient of the target probabilities (N, C, ...) for g (N, ...)."""


@kernel
def nll_loss(log_p, target, weight=None, ignore_index=-100):
    """-log_p[target] weight[target] for log_p (N, C, ...), 0 where target == ignore_index: (N, ...)."""


@kernel
def nll_loss_grad(g, target, num_classes, weight=None, ignore_index=-100):
    """The gradient of the log-probabilities (N, C, ...) for g (N, ...)."""


@kernel
def binary_cross_entropy_with_logits(x, target, pos_weight=None):
    """-(pos_weight t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))) at every element, without overflow."""


@kernel
def binary_cross_entropy_with_logits_grad_input(g, x, target, pos_weight=None):
    """g times the derivative by x: sigmoid(x) - t if there is no pos_weight."""


@kernel
def binary_cross_entropy_with_logits_grad_target(g, x, pos_weight=None):
    """g times the derivative by the target: -x if there is no pos_weight."""


@kernel
def conv2d(x, weight, bias=None, *, stride, padding, dilation, groups):
    """Cross-correlate x (N, C, H, W) with weight (O, C/G, kh, kw), and add bias (O,): (N, O, H', W').

    y[n, o, r, s] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c', r sh + i dh - ph, s sw + j dw - pw], where
    c' counts from the first of the C/G channels of o's group and x is 0 outside. stride, padding and dilation are
    pairs (rows, columns), groups = G; the size of y is `shapes.conv_output_size`.
    """


@kernel
def conv2d_grad_input(g, weight, size, *, stride, padding, dilation, groups):
    """The gradient (N, C, H, W) of conv2d's x of size = (H, W), for g (N, O, H', W').

    g says how many windows there are: the last may run over the end of x, or x go on where no window reaches.
    """


@kernel
def conv2d_grad_weight(g, x, kernel_size, *, stride, padding, dilation, groups):
    """The gradient (O, C/G, kh, kw) of conv2d's weight; g says how many windows there are, as in conv2d_grad_input."""


@kernel
def conv2d_grad_bias(g):
    """The sum over samples and pixels of g (N, O, H, W): (O,)."""


@kernel
def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    """The largest element of every window of x (N, C, H, W), and which it was: two arrays (N, C, H', W').

    The second counts the taps of the window, i kw + j, in the smallest unsigned type that holds them. The first of
    equal elements wins, a NaN wins over all numbers (the last one, if there are several), padding never does.
    Options are pairs, as in conv2d; the size of y is `shapes.pool_output_size`.
    """


@kernel
def max_pool2d_grad(g, winners, size, *, kernel_size, stride, padding, dilation):
    """The gradient of max_pool2d's x of size = (H, W): each g goes to the winner of its window."""


@kernel
def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """The mean of every window of x (N, C, H, W): its sum over the elements it counts, `shapes.window_lengths`.

    Padding counts with count_include_pad; divisor_override, if not None, is what all sums are divided by.
    """


@kernel
def avg_pool2d_grad(g, size, *, kernel_size, stride, padding, count_include_pad, divisor_override):
    """The gradient of avg_pool2d's x of size = (H, W)."""


@kernel
def adaptive_avg_pool2d(x, *, output_size):
    """The means of output_size windows that cover x (N, C, H, W), as `shapes.adaptive_windows` cuts them."""


@kernel
def adaptive_avg_pool2d_grad(g, size):
    """The gradient of adaptive_avg_pool2d's x of size = (H, W)."""


@kernel
def adaptive_max_pool2d(x, *, output_size):
    """The largest elements of output_size windows that cover x (N, C, H, W), and their places row W + column.

    The first of equal elements wins, and a NaN wins over all numbers (the first one).
    """


@kernel
def adaptive_max_pool2d_grad(g, winners, size):
    """The gradient of adaptive_max_pool2d's x of size = (H, W)."""


@kernel
def upsample_nearest2d(x, *, size, step, exact):
    """x (N, C, H, W) at the rows and columns that `shapes.nearest_sources` names: (N, C, *size).

    step: how many pixels of x there are to one of the result, for rows and columns.
    """


@kernel
def upsample_nearest2d_grad(g, size, *, step, exact):
    """The gradient of upsample_nearest2d's x of size = (H, W)."""


@kernel
def upsample_bilinear2d(x, *, size, step, align_corners):
    """Each pixel a blend of four of x (N, C, H, W), with the shares of `shapes.linear_sources`: (N, C, *size)."""


@kernel
def upsample_bilinear2d_grad(g, size, *, step, align_corners):
    """The gradient of upsample_bilinear2d's x of size = (H, W)."""
