"""The commonest misuse of every layer: the call, the exception or warning, and words of its message."""

import numpy as np

import minidl
import minidl.nn.functional as F
from minidl import nn

r, t = minidl.rand, minidl.tensor
LABELS = t(np.array([0, 1, 2, 0]))
MAPS, SIGNALS, ROWS = r(4, 3, 8, 8), r(4, 3, 8), r(4, 6)
WORDS = t(np.array([[1, 2], [3, 4]]))
MASKED = t(np.zeros((2, 4), int)), t(np.ones((2, 4), bool))

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
