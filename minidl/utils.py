"""`torch.utils` as scripts use it: `torch.utils.data.DataLoader` is `minidl.data.DataLoader`."""

from minidl import data

__all__ = ["data"]
