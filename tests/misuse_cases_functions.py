"""The commonest misuse of every function of nn.functional, optimiser and schedule; see misuse_cases_layers.py."""

import numpy as np
from misuse_cases_layers import LABELS, MAPS, MASKED, ROWS, SIGNALS, r, t

import minidl
import minidl.nn.functional as F
from minidl import nn, optim

W = nn.Parameter(np.ones(3, np.float32))
S = optim.lr_scheduler


def sgd():
    return optim.SGD([W], lr=0.1)


FUNCTIONS = {
    "adaptive_avg_pool1d": (
        lambda: F.adaptive_avg_pool1d(MAPS, 1),
        minidl.ShapeError, 'adaptive_avg_pool1d: input of shape (4, 3, 8, 8) has 4'),
    "adaptive_avg_pool2d": (
        lambda: F.adaptive_avg_pool2d(ROWS, 1),
        minidl.ShapeError, 'adaptive_avg_pool2d: input of shape (4, 6) has 2 axes,'),
    "adaptive_max_pool1d": (
        lambda: F.adaptive_max_pool1d(SIGNALS, 0),
        ValueError, 'adaptive_max_pool1d: output_size must be at least 1, not'),
    "adaptive_max_pool2d": (
        lambda: F.adaptive_max_pool2d(MAPS, (1, 2, 3)),
        ValueError, 'adaptive_max_pool2d: output_size = [1, 2, 3] has 3'),
    "avg_pool1d": (
        lambda: F.avg_pool1d(SIGNALS, 9),
        minidl.ShapeError, 'avg_pool1d: no window of kernel_size 9 fits into (8,)'),
    "avg_pool2d": (
        lambda: F.avg_pool2d(MAPS, 9),
        minidl.ShapeError, 'avg_pool2d: no window of kernel_size 9 fits into (8, 8)'),
    "batch_norm": (
        lambda: F.batch_norm(MAPS, t([0.0, 0.0]), t([1.0, 1.0])),
        minidl.ShapeError, 'batch_norm: running_mean has shape (2,), the channels of'),
    "binary_cross_entropy": (
        lambda: F.binary_cross_entropy(r(4, 1), t(np.ones((4, 1), int))),
        TypeError, 'binary_cross_entropy: input and target must be floating,'),
    "binary_cross_entropy_with_logits": (
        lambda: F.binary_cross_entropy_with_logits(r(4, 9), LABELS),
        minidl.ShapeError, 'binary_cross_entropy_with_logits: input has shape (4, 9),'),
    "conv1d": (
        lambda: F.conv1d(SIGNALS, r(4, 3, 9)),
        minidl.ShapeError, 'conv1d: the kernel of size (9,) (dilation 1) is larger'),
    "conv2d": (
        lambda: F.conv2d(r(4, 8, 8, 3), r(5, 3, 3, 3)),
        minidl.ShapeError, 'conv2d: input of shape (4, 8, 8, 3) has 8 channels (axis'),
    "conv_transpose1d": (
        lambda: F.conv_transpose1d(SIGNALS, r(4, 2, 3)),
        minidl.ShapeError, 'conv_transpose1d: input of shape (4, 3, 8) has 3 channels'),
    "conv_transpose2d": (
        lambda: F.conv_transpose2d(MAPS, r(4, 2, 3, 3)),
        minidl.ShapeError, 'conv_transpose2d: input of shape (4, 3, 8, 8) has 3'),
    "cross_entropy": (
        lambda: F.cross_entropy(r(64, 3), LABELS),
        minidl.ShapeError, 'cross_entropy: targets have shape (4,), the input (64, 3)'),
    "dropout": (
        lambda: F.dropout(ROWS, 50),
        ValueError, 'dropout: p is the probability of an element to be'),
    "dropout2d": (
        lambda: F.dropout2d(ROWS, 2.0),
        ValueError, 'feature_dropout: p is the probability of an element to be'),
    "elu": (
        lambda: F.elu([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "embedding": (
        lambda: F.embedding(ROWS, r(5, 3)),
        TypeError, 'embedding(indices, weight): the indices must be integers,'),
    "gelu": (
        lambda: F.gelu(ROWS, approximate="fast"),
        ValueError, "gelu: approximate must be 'none' or 'tanh', not 'fast'"),
    "group_norm": (
        lambda: F.group_norm(MAPS, 2),
        minidl.ShapeError, 'group_norm: the channels (axis 1) of the input (4, 3, 8,'),
    "huber_loss": (
        lambda: F.huber_loss(ROWS, r(4)),
        minidl.ShapeError, 'huber_loss: input (4, 6) and target (4,) do not fit'),
    "interpolate": (
        lambda: F.interpolate(MAPS),
        ValueError, 'interpolate: give either size or scale_factor, one of them'),
    "kl_div": (
        lambda: F.kl_div(minidl.randn(4, 3, requires_grad=True).softmax(1), r(4, 3), "batchmean"),
        UserWarning, 'kl_div takes log-probabilities as its input, but was'),
    "l1_loss": (
        lambda: F.l1_loss(r(4, 1), r(4)),
        UserWarning, 'l1_loss: input has shape (4, 1) and target (4,):'),
    "layer_norm": (
        lambda: F.layer_norm(ROWS, (5,)),
        minidl.ShapeError, 'layer_norm: the last axes of the input (4, 6) are not'),
    "leaky_relu": (
        lambda: F.leaky_relu([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "linear": (
        lambda: F.linear(r(4, 65536), r(2, 4096)),
        minidl.ShapeError, 'linear: input of shape (4, 65536) has 65536 features, the'),
    "log_softmax": (
        lambda: F.log_softmax(ROWS, 2),
        IndexError, 'log_softmax: dim 2 does not exist for shape (4, 6);'),
    "logsigmoid": (
        lambda: F.logsigmoid([1.0]),
        TypeError, "bad operand type for unary -: 'list'"),
    "masked_cross_entropy": (
        lambda: F.masked_cross_entropy(r(2, 5, 7), *MASKED),
        minidl.ShapeError, 'masked_cross_entropy: logits (N, T, C) need targets (N,'),
    "max_pool1d": (
        lambda: F.max_pool1d(SIGNALS, 0),
        ValueError, 'max_pool1d: kernel_size must be at least 1, not 0'),
    "max_pool2d": (
        lambda: F.max_pool2d(MAPS, 9),
        minidl.ShapeError, 'max_pool2d: no window of kernel_size 9 fits into (8, 8)'),
    "mish": (
        lambda: F.mish([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "mse_loss": (
        lambda: F.mse_loss(r(4, 1), r(4)),
        UserWarning, 'mse_loss: input has shape (4, 1) and target (4,):'),
    "multi_head_attention": (
        lambda: F.multi_head_attention(r(2, 4, 8), r(2, 4, 8), r(2, 4, 8), 3),
        TypeError, 'multi_head_attention: input 3 is a int; make it a tensor'),
    "nll_loss": (
        lambda: F.nll_loss(minidl.randn(4, 3, requires_grad=True).softmax(1), LABELS),
        UserWarning, 'nll_loss takes log-probabilities, but its input is the'),
    "normalize": (
        lambda: F.normalize(ROWS, dim=2),
        IndexError, 'norm: dim 2 does not exist for shape (4, 6); expected -2'),
    "one_hot": (
        lambda: F.one_hot(LABELS, 2),
        IndexError, 'one_hot: indices reach from 0 to 2, there are 2 classes'),
    "packed_attention": (
        lambda: F.packed_attention(r(2, 4, 9), 2),
        TypeError, 'packed_attention: input 1 is a int; make it a tensor'),
    "pad": (
        lambda: F.pad(ROWS, (1, 2, 3)),
        minidl.ShapeError, 'pad: 3 sizes for shape (4, 6): give two for each dim, the'),
    "prelu": (
        lambda: F.prelu(MAPS, r(4)),
        minidl.ShapeError, 'prelu: weight has 4 elements, one for each channel (axis'),
    "relu": (
        lambda: F.relu([1.0]),
        TypeError, 'relu: input 0 is a list; make it a tensor first:'),
    "relu6": (
        lambda: F.relu6([1.0]),
        TypeError, 'relu: input 0 is a list; make it a tensor first:'),
    "scaled_dot_product_attention": (
        lambda: F.scaled_dot_product_attention(r(2, 4, 8), r(2, 4, 6), r(2, 4, 8)),
        minidl.ShapeError, 'scaled_dot_product_attention: query (2, 4, 8) and key (2,'),
    "selu": (
        lambda: F.selu([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "sigmoid": (
        lambda: F.sigmoid([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "silu": (
        lambda: F.silu([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "smooth_l1_loss": (
        lambda: F.smooth_l1_loss(r(4, 1), r(4)),
        UserWarning, 'smooth_l1_loss: input has shape (4, 1) and target (4,):'),
    "softmax": (
        lambda: F.softmax(ROWS, 2),
        IndexError, 'softmax: dim 2 does not exist for shape (4, 6); expected'),
    "softplus": (
        lambda: F.softplus([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "tanh": (
        lambda: F.tanh([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
}
OPTIMISERS = {
    "Adam": (
        lambda: optim.Adam(nn.Linear(2, 3)),
        TypeError, 'Adam: got the module itself; give its parameters:'),
    "AdamW": (
        lambda: optim.AdamW([W], learning_rate=0.1),
        TypeError, "AdamW has no argument 'learning_rate': it is called lr;"),
    "Optimizer": (
        lambda: optim.SGD([r(3)], lr="0.1"),
        ValueError, 'SGD: lr must be a finite number that is not negative, got'),
    "RMSprop": (
        lambda: optim.RMSprop([], lr=0.1),
        ValueError, 'RMSprop: got an empty list of parameters'),
    "SGD": (
        lambda: optim.SGD([W], lr=-0.1),
        ValueError, 'SGD: lr must be a finite number that is not negative, got'),
    "clip_grad_norm_": (
        lambda: optim.clip_grad_norm_(nn.Linear(2, 3), 1.0),
        TypeError, 'clip_grad_norm_: expected a tensor or an iterable of'),
    "clip_grad_value_": (
        lambda: optim.clip_grad_value_([W], -1),
        ValueError, 'clip_grad_value_: clip_value must be a number from 0, got'),
    "ConstantLR": (
        lambda: S.ConstantLR(0.1),
        TypeError, 'ConstantLR: the first argument must be an optimiser, got'),
    "CosineAnnealingLR": (
        lambda: S.CosineAnnealingLR(sgd(), 0),
        ValueError, 'CosineAnnealingLR: T_max must be above 0, got 0'),
    "CosineAnnealingWarmRestarts": (
        lambda: S.CosineAnnealingWarmRestarts(sgd(), 0),
        ValueError, 'CosineAnnealingWarmRestarts: T_0 must be a whole number'),
    "ExponentialLR": (
        lambda: S.ExponentialLR(0.1),
        TypeError, 'ExponentialLR.__init__() missing 1 required positional'),
    "LRScheduler": (
        lambda: S.LRScheduler(0.1),
        TypeError, 'LRScheduler: the first argument must be an optimiser, got'),
    "LambdaLR": (
        lambda: S.LambdaLR(sgd(), 0.5),
        TypeError, 'LambdaLR: lr_lambda is a function of the epoch that gives'),
    "LinearLR": (
        lambda: S.LinearLR(sgd(), 0.0),
        ValueError, 'LinearLR: start_factor must be above 0 and at most 1, got '),
    "MultiStepLR": (
        lambda: S.MultiStepLR(sgd(), 30),
        TypeError, 'MultiStepLR: milestones is a list of epochs such as [30,'),
    "OneCycleLR": (
        lambda: S.OneCycleLR(sgd(), 0.1),
        ValueError, 'OneCycleLR: give total_steps, or epochs and'),
    "ReduceLROnPlateau": (
        lambda: S.ReduceLROnPlateau(sgd(), factor=2.0),
        ValueError, 'ReduceLROnPlateau: factor must be below 1, got '),
    "SequentialLR": (
        lambda: S.SequentialLR(sgd(), [S.StepLR(sgd(), 1)], [1]),
        ValueError, 'SequentialLR: 1 schedules need 0 milestones, got 1'),
    "StepLR": (
        lambda: S.StepLR(sgd(), 0),
        ValueError, 'StepLR: step_size must be a whole number from 1, got 0'),
}
