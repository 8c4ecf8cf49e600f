"""Listing L16: the trained network is loaded before the listing that trains and saves it.

Cure: `minidl.save(model, "pretrained_model.safetensors")` first.
"""

import minidl

model = minidl.load("pretrained_model.h5")
