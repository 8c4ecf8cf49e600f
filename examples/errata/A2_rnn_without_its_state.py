"""Table A2: h_t = act(W x_t + b), a recurrent step that leaves the state out and is given one vector.

Cure: `nn.RNN(input_size, hidden_size)` on a sequence (T, N, input_size): h_t = act(W x_t + U h_{t-1} + b).
"""

import minidl
from minidl import nn

nn.RNN(8, 16)(minidl.rand(8))
