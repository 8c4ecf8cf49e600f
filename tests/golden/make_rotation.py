"""Make rotation.npz: images turned by scipy.ndimage.rotate, which tests/test_data_transforms.py compares with.

    python tests/golden/make_rotation.py

`mode="grid-constant"` interpolates with a constant outside the image, up to its very edge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

ANGLES = [0.0, 12.5, -33.0, 90.0, 180.0, 271.0]
FILL = 0.25


def main() -> None:
    images = np.random.default_rng(3).random((len(ANGLES), 2, 9, 12))
    turned = [
        ndimage.rotate(image, angle, axes=(1, 2), reshape=False, order=1, mode="grid-constant", cval=FILL)
        for image, angle in zip(images, ANGLES)
    ]
    np.savez_compressed(Path(__file__).with_name("rotation.npz"), images=images, angles=ANGLES, fill=FILL,
                        turned=np.stack(turned))


if __name__ == "__main__":
    main()
