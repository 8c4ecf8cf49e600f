"""ONNX files made by hand for the tests: protocol buffers written from nothing, so that they can be wrong."""

import struct


def varint(value):
    value &= 2**64 - 1
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def field(number, value):
    """A field: integers as they are, texts, bytes and messages with their length, floats in 4 bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(number, values):
    return b"".join(field(number, value) for value in values)


def tensor(name="w", dims=(2,), kind=1, raw=bytes(8), more=b""):
    """A TensorProto; raw=None leaves its bytes out."""
    data = fields(1, dims) + field(2, kind) + field(8, name)
    return data + (b"" if raw is None else field(9, raw)) + more


def attribute(name, kind, value=b""):
    return field(1, name) + field(20, kind) + value


def ints(name, values):
    return attribute(name, 7, fields(8, values))


def node(op_type="Relu", inputs=("x",), outputs=("y",), attributes=(), name="", domain=""):
    return fields(1, inputs) + fields(2, outputs) + field(3, name) + field(4, op_type) + fields(5, attributes) + \
        (field(7, domain) if domain else b"")


def value(name, dims=(2,), kind=1):
    shape = b"".join(field(1, field(1, n) if isinstance(n, int) else field(2, n)) for n in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


RELU, X, Y = node(), value("x"), value("y")


def graph(nodes=(RELU,), tensors=(), inputs=(X,), outputs=(Y,), more=b""):
    return fields(1, nodes) + field(2, "g") + fields(5, tensors) + fields(11, inputs) + fields(12, outputs) + more


def model(*, opset=17, more=b"", **parts):
    return field(1, 8) + field(7, graph(**parts)) + field(8, field(2, opset)) + more
