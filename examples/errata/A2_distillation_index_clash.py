"""Table A2: distillation as a sum over pairs, teacher (N, 1) against student (N, C), the index used twice.

Cure: soft targets of the student's shape: `nn.MSELoss()(student, teacher)` with (N, C) both.
"""

import minidl
from minidl import nn

student, teacher = minidl.rand(8, 10), minidl.rand(8, 1)
nn.MSELoss()(student, teacher)
