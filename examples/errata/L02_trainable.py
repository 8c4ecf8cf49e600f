"""Listing L2: the first layers shall be kept and are not frozen; Keras' switch would not do it here either.

Cure: `minidl.freeze(model, "features.*")`, and `model.summary()` shows what is trained.
"""

from minidl.models import create_model

model = create_model("mobilenet_v2", num_classes=10)
for layer in model.features:
    layer.trainable = False
