"""Listing L2: the new head pools what the whole network returns, 1000 class scores and no maps.

Cure: `headless(model)` or `features(model, "features")` gives what stands before the scores.
"""

import minidl
from minidl import nn
from minidl.models import create_model

base_model = create_model("mobilenet_v2")
base_model.eval()
head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1000, 1024), nn.ReLU(), nn.Linear(1024, 10))
with minidl.no_grad():
    head(base_model(minidl.rand(2, 3, 32, 32)))
