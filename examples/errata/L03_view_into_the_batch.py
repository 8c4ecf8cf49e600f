"""Listing L3 with `view(-1, 64 * 8 * 8)`: each image becomes 16 rows, and the labels are too few.

Cure: `x.flatten(1)`, which keeps the samples apart and lets the dense layer complain.
"""

import minidl as torch
import minidl.nn.functional as F

maps = torch.rand(4, 64, 32, 32)
weight = torch.rand(10, 64 * 8 * 8)
scores = F.linear(maps.view(-1, 64 * 8 * 8), weight)
F.cross_entropy(scores, torch.tensor([3, 1, 4, 1]))
