"""Tests of the compiled kernels, and of the benchmarks that time them, choose the backend `cpu`."""

import pytest

from minidl import kernels


@pytest.fixture(autouse=True)
def compiled_kernels_where_they_are_tested(request, monkeypatch):
    if request.path.name.startswith(("test_cpu_", "test_benchmarks")):
        monkeypatch.setenv("MINIDL_BACKEND", "cpu")  # for the processes that a test starts
        with kernels.use_backend("cpu"):
            yield
    else:
        yield
