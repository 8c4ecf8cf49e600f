"""Table A2, the worked example's update by hand: the step replaces the parameter by a plain tensor.

Cure: `optimizer.step()`, or `model.weight.data.sub_(…)`.
"""

import minidl
from minidl import nn

model = nn.Linear(1, 1)
loss = ((model(minidl.tensor([[50.0]])) - 100.0) ** 2).sum()
loss.backward()
model.weight = model.weight - 0.1 * model.weight.grad
