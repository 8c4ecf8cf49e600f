"""The benchmark suite: minidl beside PyTorch, JAX and NumPy, measured in one process on equal terms.

`python -m benchmarks VERB` (see `__main__.py`). A verb is a file of the same name that describes its work; `suite.py`
compares the outputs and has `timing.py` measure; `report.py` prints. Read `timing.py` first: how a figure arises.
"""
