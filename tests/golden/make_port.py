"""Make port.npz: what torch_script.py gives when PyTorch runs it. Run with PyTorch 2.13 installed."""

from pathlib import Path

import numpy as np
from torch_script import run

if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("port.npz"), **run())
