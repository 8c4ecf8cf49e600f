"""Every public layer, function, optimiser and schedule has a test of its commonest misuse: what is said of it."""

import re

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import nn, optim

r, t = minidl.rand, minidl.tensor
LABELS = t(np.array([0, 1, 2, 0]))
MAPS, SIGNALS, ROWS = r(4, 3, 8, 8), r(4, 3, 8), r(4, 6)
WORDS = t(np.array([[1, 2], [3, 4]]))
MASKED = t(np.zeros((2, 4), int)), t(np.ones((2, 4), bool))
W = nn.Parameter(np.ones(3, np.float32))
S = optim.lr_scheduler


def sgd():
    return optim.SGD([W], lr=0.1)

LAYERS = {
    "AdaptiveAvgPool1d": (
        lambda: nn.AdaptiveAvgPool1d(0)(SIGNALS),
        ValueError, 'adaptive_avg_pool1d: output_size must be at least 1, not'),
    "AdaptiveAvgPool2d": (
        lambda: nn.AdaptiveAvgPool2d(1)(ROWS),
        minidl.ShapeError, 'adaptive_avg_pool2d: input of shape (4, 6) has 2 axes,'),
    "AdaptiveMaxPool1d": (
        lambda: nn.AdaptiveMaxPool1d((2, 2))(SIGNALS),
        ValueError, 'adaptive_max_pool1d: output_size = [2, 2] has 2 numbers'),
    "AdaptiveMaxPool2d": (
        lambda: nn.AdaptiveMaxPool2d(1.5)(MAPS),
        TypeError, 'adaptive_max_pool2d: output_size must be an integer or a'),
    "AvgPool1d": (
        lambda: nn.AvgPool1d(2)(MAPS),
        minidl.ShapeError, 'avg_pool1d: input of shape (4, 3, 8, 8) has 4 axes,'),
    "AvgPool2d": (
        lambda: nn.AvgPool2d(2)(t(np.zeros((1, 3, 8, 8), np.uint8))),
        TypeError, 'avg_pool2d: needs floating-point numbers, not uint8; use'),
    "BCELoss": (
        lambda: nn.BCELoss()(r(4, 1) * 3 + 1, r(4, 1)),
        ValueError, 'binary_cross_entropy: the input holds probabilities,'),
    "BCEWithLogitsLoss": (
        lambda: nn.BCEWithLogitsLoss()(r(4, 1), r(4)),
        minidl.ShapeError, 'binary_cross_entropy_with_logits: input has shape (4, 1),'),
    "BatchNorm1d": (
        lambda: nn.BatchNorm1d(6)(MAPS),
        minidl.ShapeError, 'BatchNorm1d(6, eps=1e-05, momentum='),
    "BatchNorm2d": (
        lambda: nn.BatchNorm2d(8)(MAPS),
        minidl.ShapeError, 'BatchNorm2d(8, eps=1e-05, momentum='),
    "Conv1d": (
        lambda: nn.Conv1d(8, 4, 3)(SIGNALS),
        minidl.ShapeError, 'conv1d: input of shape (4, 3, 8) has 3 channels (axis 1),'),
    "Conv2d": (
        lambda: nn.Conv2d(1, 4, 3)(r(4, 8, 8)),
        minidl.ShapeError, 'conv2d: input of shape (4, 8, 8) has 4 channels (axis 0),'),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(4, 2, 3)(SIGNALS),
        minidl.ShapeError, 'conv_transpose1d: input of shape (4, 3, 8) has 3 channels'),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(3, 2, 3, stride=1, output_padding=1)(MAPS),
        ValueError, 'conv_transpose2d: output_padding (1, 1) must be smaller'),
    "CrossEntropyLoss": (
        lambda: nn.CrossEntropyLoss()(r(4, 3), LABELS + 1),
        IndexError, 'cross_entropy: label 3 at position (2,) lies outside the'),
    "Dropout": (
        lambda: nn.Dropout(50),
        ValueError, 'Dropout: p is the probability to be dropped, between 0'),
    "Dropout2d": (
        lambda: nn.Dropout2d(50),
        ValueError, 'Dropout2d: p is the probability to be dropped, between 0'),
    "ELU": (
        lambda: nn.ELU(inplace=True)([1.0, -1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "Embedding": (
        lambda: nn.Embedding(4, 8)(WORDS),
        IndexError, 'embedding: index 4 at position (1, 1) lies outside the 4'),
    "Flatten": (
        lambda: nn.Flatten(3)(ROWS),
        IndexError, 'flatten: dim 3 does not exist for shape (4, 6); expected'),
    "GELU": (
        lambda: nn.GELU("fast")(ROWS),
        ValueError, "gelu: approximate must be 'none' or 'tanh', not 'fast'"),
    "GRU": (
        lambda: nn.GRU(3, 5)(WORDS),
        TypeError, 'GRU(3, 5): an input of floating-point numbers is'),
    "GRUCell": (
        lambda: nn.GRUCell(3, 5)(ROWS),
        minidl.ShapeError, 'GRUCell(3, 5): an input (N, I) or (I,) with I = 3 is'),
    "GroupNorm": (
        lambda: nn.GroupNorm(2, 3),
        ValueError, 'GroupNorm: 3 channels cannot be split into 2 equal groups'),
    "HuberLoss": (
        lambda: nn.HuberLoss()(r(4, 1), r(4)),
        UserWarning, 'huber_loss: input has shape (4, 1) and target (4,):'),
    "Identity": (
        lambda: nn.Identity(54),
        TypeError, 'Identity takes no arguments, got 1'),
    "KLDivLoss": (
        lambda: nn.KLDivLoss()(r(4, 3).log(), r(4, 3)),
        UserWarning, "kl_div: reduction='mean' divides by the number of"),
    "KeyValueCache": (
        lambda: nn.KeyValueCache(1, 2, 4).append(np.zeros((1, 3, 4)), np.zeros((1, 3, 4))),
        minidl.ShapeError, 'KeyValueCache: 0 steps are held, 3 more do not fit into'),
    "L1Loss": (
        lambda: nn.L1Loss()(r(4, 1), r(4)),
        UserWarning, 'l1_loss: input has shape (4, 1) and target (4,):'),
    "LSTM": (
        lambda: nn.LSTM(3, 5)(r(7, 2, 4)),
        minidl.ShapeError, 'LSTM(3, 5): the input (7, 2, 4) has 4 features at each'),
    "LSTMCell": (
        lambda: nn.LSTMCell(6, 5)(ROWS, r(4, 5)),
        TypeError, 'LSTMCell(6, 5): the first state is a pair (h, c)'),
    "LayerNorm": (
        lambda: nn.LayerNorm(5)(ROWS),
        minidl.ShapeError, 'layer_norm: the last axes of the input (4, 6) are not'),
    "LeakyReLU": (
        lambda: nn.LeakyReLU(alpha=0.1),
        TypeError, "LeakyReLU has no argument 'alpha': it is called"),
    "LearnedPosition": (
        lambda: nn.LearnedPosition(4, 8)(r(2, 6, 8)),
        minidl.ShapeError, 'LearnedPosition(4, max_length=8, batch_first=True): an'),
    "Linear": (
        lambda: nn.Linear(1600, 10)(r(2, 64, 5, 5)),
        minidl.ShapeError, 'linear: input of shape (2, 64, 5, 5) has 5 features, the'),
    "LogSigmoid": (
        lambda: nn.LogSigmoid()([1.0]),
        TypeError, "LogSigmoid(): bad operand type for unary -: 'list'"),
    "LogSoftmax": (
        lambda: nn.LogSoftmax(2)(ROWS),
        IndexError, 'log_softmax: dim 2 does not exist for shape (4, 6);'),
    "MSELoss": (
        lambda: nn.MSELoss()(r(4, 1), r(4)),
        UserWarning, 'mse_loss: input has shape (4, 1) and target (4,):'),
    "MaskedCrossEntropyLoss": (
        lambda: nn.MaskedCrossEntropyLoss()(r(2, 5, 7), *MASKED),
        minidl.ShapeError, 'masked_cross_entropy: logits (N, T, C) need targets (N,'),
    "MaxPool1d": (
        lambda: nn.MaxPool1d(9)(SIGNALS),
        minidl.ShapeError, 'max_pool1d: no window of kernel_size 9 fits into (8,)'),
    "MaxPool2d": (
        lambda: nn.MaxPool2d(2, padding=2)(MAPS),
        minidl.ShapeError, 'max_pool2d: padding 2 is more than half of the window,'),
    "Mish": (
        lambda: nn.Mish()([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "Module": (
        lambda: nn.Module()(ROWS),
        NotImplementedError, 'Module(): Module must define forward()'),
    "ModuleDict": (
        lambda: nn.ModuleDict({"a": F.relu}),
        TypeError, "'a' must be a Module, not function; a function is no"),
    "ModuleList": (
        lambda: nn.ModuleList([F.relu]),
        TypeError, "'0' must be a Module, not function; a function is no"),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(10, 3),
        ValueError, 'MultiheadAttention: embed_dim 10 cannot be split into'),
    "NLLLoss": (
        lambda: nn.NLLLoss()(r(4, 3).softmax(1), LABELS.float()),
        TypeError, 'nll_loss: targets are class indices, integers of shape'),
    "PReLU": (
        lambda: nn.PReLU(4)(MAPS),
        minidl.ShapeError, 'prelu: weight has 4 elements, one for each channel (axis'),
    "Parameter": (
        lambda: nn.Parameter(np.arange(3)),
        TypeError, 'only floating-point tensors can require gradients, this'),
    "RNN": (
        lambda: nn.RNN(8, 16)(r(8)),
        minidl.ShapeError, 'RNN(8, 16): an input (T, N, I) or, for one sequence, (T,'),
    "RNNCell": (
        lambda: nn.RNNCell(3, 5)(r(7, 4, 3)),
        minidl.ShapeError, 'RNNCell(3, 5): an input (N, I) or (I,) with I = 3 is'),
    "ReLU": (
        lambda: nn.ReLU(ROWS),
        TypeError, 'ReLU is a layer, to be made before it is called:'),
    "ReLU6": (
        lambda: nn.ReLU6()([1.0]),
        TypeError, 'relu: input 0 is a list; make it a tensor first:'),
    "SELU": (
        lambda: nn.SELU()([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "Sequential": (
        lambda: nn.Sequential([nn.ReLU(), nn.Linear(2, 3)]),
        TypeError, "'0' must be a Module, not list; give the modules one by"),
    "SiLU": (
        lambda: nn.SiLU()([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "Sigmoid": (
        lambda: nn.Sigmoid()([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "SinusoidalPosition": (
        lambda: nn.SinusoidalPosition(4, 8)(r(2, 6, 8)),
        minidl.ShapeError, 'SinusoidalPosition(4, max_length=8, batch_first=True): an'),
    "SmoothL1Loss": (
        lambda: nn.SmoothL1Loss()(r(4, 1), r(4)),
        UserWarning, 'smooth_l1_loss: input has shape (4, 1) and target (4,):'),
    "Softmax": (
        lambda: nn.Softmax(2)(ROWS),
        IndexError, 'softmax: dim 2 does not exist for shape (4, 6); expected'),
    "Softplus": (
        lambda: nn.Softplus()([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "Tanh": (
        lambda: nn.Tanh()([1.0]),
        TypeError, 'cannot compute with list: numbers, arrays and tensors are'),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer, 2),
        TypeError, "'0' must be a Module, not type (the class itself: write"),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2)(r(5, 2, 6)),
        minidl.ShapeError, 'self_attn (MultiheadAttention(embed_dim=8, num_heads=2,'),
    "Unflatten": (
        lambda: nn.Unflatten(1, (3, 3))(ROWS),
        minidl.ShapeError, 'unflatten: dim 1 of shape (4, 6) cannot become (3, 3)'),
    "Upsample": (
        lambda: nn.Upsample()(MAPS),
        ValueError, 'interpolate: give either size or scale_factor, one of them'),
}
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

EXEMPT = {
    "functional": "a module", "init": "a module", "utils": "a module",
}


def misuses():
    return [pytest.param(*entry, id=name) for table in (LAYERS, FUNCTIONS, OPTIMISERS) for name, entry in table.items()]


@pytest.mark.parametrize(("call", "kind", "words"), misuses())
def test_the_commonest_misuse_is_named(call, kind, words):
    with (pytest.warns if issubclass(kind, Warning) else pytest.raises)(kind, match=re.escape(words)):
        call()


def public(module):
    return {name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))
            and getattr(getattr(module, name), "__module__", "").startswith("minidl.")}


def test_every_public_name_has_an_entry():
    assert set(nn.__all__) <= {*LAYERS, *EXEMPT}
    assert public(F) - {"Tensor", "as_array", "missing_layer", "annotations"} <= {*FUNCTIONS, *EXEMPT}
    assert {*optim.__all__, *public(S)} - {"lr_scheduler", "checked_optimizer", "check_positive"} <= {
        *OPTIMISERS, *EXEMPT}
