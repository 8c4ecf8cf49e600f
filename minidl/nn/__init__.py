"""Layers, containers and losses under PyTorch's names; `module.py` is the one to read first."""

from __future__ import annotations

from minidl.nn import init
from minidl.nn.container import ModuleDict, ModuleList, Sequential
from minidl.nn.linear import Identity, Linear
from minidl.nn.module import Module, Parameter

__all__ = ["Identity", "Linear", "Module", "ModuleDict", "ModuleList", "Parameter", "Sequential", "init"]
