"""Table A2: a convolution taken for y = W x + b, "a special dense layer".

Cure: `nn.functional.conv2d(x, weight, bias)`; as a matrix product it needs every patch as a row (im2col).
"""

import minidl

image, weight = minidl.rand(1, 28, 28), minidl.rand(8, 1, 3, 3)
weight @ image
