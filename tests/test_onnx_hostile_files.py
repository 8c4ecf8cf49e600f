"""A hostile or damaged ONNX file raises FileFormatError, runs nothing and claims no memory."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from onnx_parts import attribute, field, fields, graph, ints, model, node, tensor, value, varint

import minidl
from minidl import FileFormatError
from minidl.onnx import load
from minidl.transfer import build, load_tensors, save, structure

LONG = "n" * 100_000


def raw(*numbers, dtype=np.int64):
    return np.array(numbers, dtype).tobytes()


def shaped(numbers, op_type="ConstantOfShape", before=(), tensors=()):
    """A file with one node that is given a shape which stands in the file, and an Add of its result."""
    return model(nodes=[node(op_type, (*before, "shape"), ("big",)), node("Add", ("x", "big"), ("y",))],
                 tensors=[tensor("shape", (len(numbers),), 7, raw(*numbers)), *tensors])


def chain(doublings):
    """A constant of 2 elements doubled again and again."""
    names = ["w", *(f"w{i}" for i in range(doublings))]
    nodes = [node("Concat", (a, a), (b,), [attribute("axis", 2, field(3, 0))]) for a, b in zip(names, names[1:])]
    return model(nodes=[*nodes, node("Add", ("x", names[-1]), ("y",))], tensors=[tensor()])


def outer(op_type, count):
    """An operator of many constants of 2 elements, each along an axis of its own."""
    tensors = [tensor(f"w{i}", [1] * i + [2] + [1] * (count - 1 - i)) for i in range(count)]
    return model(nodes=[node(op_type, [f"w{i}" for i in range(count)], ("big",)), node("Add", ("x", "big"), ("y",))],
                 tensors=tensors)


SUBGRAPH = attribute("body", 5, field(6, graph()))
DEEP = b""
for _ in range(200):
    DEEP = attribute("body", 5, field(6, field(1, node(attributes=[DEEP or SUBGRAPH]))))
TENSORS = {
    "too few bytes": (tensor(raw=bytes(7)), "float32 of shape \\(2,\\) takes 8 bytes, the file has 7"),
    "too many bytes": (tensor(raw=bytes(9)), "takes 8 bytes, the file has 9"),
    "no bytes": (tensor(raw=None), "takes 8 bytes, the file has 0"),
    "a negative size": (tensor(dims=(-2,)), "the shape \\[-2\\]"),
    "a huge size": (tensor(dims=(2**40,)), "takes 4,398,046,511,104 bytes"),
    "sizes that overflow": (tensor(dims=(2**33, 2**33)), "takes 295,147,905,179,352,825,856 bytes"),
    "sizes that overflow with a zero": (tensor(dims=(2**61, 2**61, 0), raw=b""), "shape"),
    "a size of 2**63": (tensor(dims=(2**63,)), "the shape"),
    "70 axes": (tensor(dims=(1,) * 70, raw=bytes(4)), "at most 32 sizes"),
    "no dtype": (tensor(kind=0), "elements of type 0"),
    "an unknown dtype": (tensor(kind=99), "elements of type 99"),
    "texts": (tensor(kind=8, raw=None, more=field(6, b"a")), "elements of type 8 \\(text\\)"),
    "complex numbers": (tensor(kind=14), "complex64"),
    "float8": (tensor(kind=17), "float8"),
    "elements twice": (tensor(more=field(4, raw(1, 2, dtype=np.float32))), "holds its elements twice"),
    "floats in the row of integers": (tensor(kind=1, raw=None, more=field(7, varint(1) * 2)), "but 2 in int64_data"),
    "too few floats": (tensor(raw=None, more=field(4, raw(1, dtype=np.float32))), "but 1 in float_data"),
    "half a float": (tensor(raw=None, more=field(4, bytes(6))), "not whole numbers of 4"),
    "too large a byte": (tensor(kind=2, raw=None, more=field(5, varint(1) + varint(300))), "that uint8 cannot"),
    "a bool of 2": (tensor(kind=9, raw=None, more=field(5, varint(1) + varint(2))), "that bool cannot"),
    "a row that ends inside of a number": (tensor(kind=7, raw=None, more=field(7, b"\1\x80")), "no row of integers"),
    "a number of 11 bytes in a row": (tensor(kind=7, raw=None, more=field(7, b"\x80" * 11 + b"\1\1")), "no row of"),
    "segments": (tensor(more=field(3, field(1, 0))), "comes in segments"),
    "no name": (tensor(""), "an initialiser has no name"),
    "a long name": (tensor(LONG), "a name of 100,000 characters"),
    "a name that is no text": (tensor(b"\xff\xfe"), "no text in UTF-8"),
    "dims that are a text": (tensor(dims=("ab\xff",)), "no row of integers|takes|the shape"),
    "dims that are floats": (tensor(dims=(1.0,)), "dims is not of the kind"),
    "two names": (tensor(more=field(8, "v")), "name stands there twice"),
}
GRAPHS = {
    "a node that takes its own result": (model(nodes=[node(inputs=("y",))]), "has a cycle"),
    "two nodes in a circle": (model(nodes=[node("Relu", ("b",), ("a",)), node("Relu", ("a",), ("b",)), node()]),
                               "cycle"),
    "nodes out of order": (model(nodes=[node("Relu", ("a",)), node("Relu", ("x",), ("a",))]), "not in order"),
    "an input that nothing defines": (model(nodes=[node("Relu", ("z",))]), "'z', which nothing defines"),
    "an output that nothing defines": (model(outputs=[value("z")]), "the output 'z' is defined by nothing"),
    "no outputs": (model(outputs=()), "no outputs"),
    "an output made twice": (model(nodes=[node(), node()]), "defined already"),
    "an output twice in a node": (model(nodes=[node("Split", outputs=("y", "y"))]), "defined already"),
    "an output that is an input": (model(nodes=[node(outputs=("x",)), node()]), "defined already"),
    "an output that is an initialiser": (model(tensors=[tensor("y")]), "defined already"),
    "two inputs of one name": (model(inputs=[value("x"), value("x")]), "two inputs of the graph"),
    "two outputs of one name": (model(outputs=[value("y"), value("y")]), "two outputs of the graph"),
    "two initialisers of one name": (model(tensors=[tensor(), tensor()]), "two initialisers are called 'w'"),
    "a sparse initialiser": (model(more=b"", nodes=[node()]).replace(field(2, "g"), field(15, b"\0") + field(2, "")),
                             "sparse initialisers|truncated|damaged"),
    "an input that is a sequence": (model(inputs=[field(1, "x") + field(2, field(4, b""))]), "is no tensor"),
    "no operator": (model(nodes=[node("")]), "no operator"),
    "a long operator": (model(nodes=[node(LONG)]), "no operator, or a name of thousands"),
    "a long input": (model(nodes=[node(inputs=(LONG,))]), "a name of 100,000 characters"),
    "20,001 nodes": (model(nodes=[node("Relu", ("x",), ("y",))] * 20_001), "20,001 nodes; at most"),
    "an unknown operator": (model(nodes=[node("Frobnicate", name="first")]),
        "opset 17: .*Frobnicate \\(node 'first'\\)"),
    "an operator of minidl's own": (model(nodes=[node("pad_spatial", attributes=[ints("pads", (1, 1))])]), "pad_spat"),
    "an operator of another domain": (model(nodes=[node(domain="com.evil")]), "com.evil.Relu"),
    "a function": (model(more=field(25, field(1, "Relu"))), "defines functions"),
    "If": (model(nodes=[node("If", attributes=[SUBGRAPH])]), "is a subgraph: control flow"),
    "Loop": (model(nodes=[node("Loop", attributes=[SUBGRAPH])]), "is a subgraph"),
    "Scan": (model(nodes=[node("Scan", attributes=[SUBGRAPH])]), "is a subgraph"),
    "subgraphs 200 deep": (model(nodes=[node("If", attributes=[DEEP])]), "is a subgraph"),
    "several subgraphs": (model(nodes=[node(attributes=[attribute("a", 10, field(11, graph()))])]), "several subgr"),
    "a sparse tensor": (model(nodes=[node(attributes=[attribute("a", 11)])]), "a sparse tensor"),
    "an attribute of a function": (model(nodes=[node(attributes=[attribute("alpha", 1, field(21, "a"))])]), "type 1"),
    "an attribute of no type": (model(nodes=[node(attributes=[attribute("alpha", 0)])]), "of type 0"),
    "an attribute of two types": (model(nodes=[node("Elu", attributes=[attribute("alpha", 1, field(3, 7))])]),
                                  "holds something else"),
    "an attribute of the wrong type": (model(nodes=[node("Elu", attributes=[attribute("alpha", 3, field(4, "a"))])]),
                                       "Elu: the attribute 'alpha' must be a number, not 'a'"),
    "one number for several": (model(nodes=[node("MaxPool", attributes=[attribute("kernel_shape", 2, field(3, 2))])]),
                               "must be integers"),
    "an unknown attribute": (model(nodes=[node(attributes=[attribute("alpah", 1)])]), "no attribute 'alpah'"),
    "a missing attribute": (model(nodes=[node("MaxPool")]), "'kernel_shape' is missing"),
    "an attribute twice": (model(nodes=[node("Elu", attributes=[attribute("alpha", 1)] * 2)]), "two attributes"),
    "too many inputs": (model(nodes=[node(inputs=("x", "x"))]), "Relu takes 1 to 1 inputs"),
    "too few inputs": (model(nodes=[node("Add")]), "Add takes 2 to 2 inputs"),
    "more outputs than there are": (model(nodes=[node(outputs=("y", "z"))]), "Relu with 2 outputs"),
    "a constant of two values": (model(nodes=[node("Constant", (), ("y",), [
        attribute("value_int", 2), attribute("value_float", 1)])]), "must hold one tensor or number"),
    "no opset": (field(1, 8) + field(7, graph()), "no version"),
    "opset 3": (model(opset=3), "opset 3; one of 7 to"),
    "opset 10,000": (model(opset=10_000), "opset 10000"),
    "two opsets": (model(more=field(8, field(2, 13))), "opset 17, 13"),
    "two graphs": (model(more=field(7, graph())), "graph stands there twice"),
    "no graph": (field(1, 8), "no graph in it"),
    "a graph that is a number": (field(1, 8) + field(7, 5), "graph is not of the kind"),
    "zeros of a terabyte": (shaped((2**40,)), "would make 1,099,511,627,776 elements"),
    "zeros of sizes that overflow": (shaped((2**40, 2**40, 2**40)), "would make"),
    "zeros of a negative size": (shaped((-5,)), "cannot be computed"),
    "expanded to a terabyte": (shaped((2**40, 2), "Expand", ("w",), [tensor()]), "would make"),
    "tiled to a terabyte": (shaped((2**40,), "Tile", ("w",), [tensor()]), "would make"),
    "reshaped to a terabyte": (shaped((2**40,), "Reshape", ("w",), [tensor()]), "cannot be computed"),
    "a range of a terabyte": (model(
        nodes=[node("Range", ("a", "b", "c"), ("big",)), node("Add", ("x", "big"), ("y",))],
        tensors=[tensor("a", (), 7, raw(0)), tensor("b", (), 7, raw(2**40)), tensor("c", (), 7, raw(1))]),
        "would make"),
    "a range of step 0": (model(
        nodes=[node("Range", ("a", "b", "c"), ("big",)), node("Add", ("x", "big"), ("y",))],
        tensors=[tensor("a", (), 7, raw(0)), tensor("b", (), 7, raw(2**40)), tensor("c", (), 7, raw(0))]), "cannot be"),
    "doubled 40 times": (chain(40), "would make"),
    "broadcast against each other": (outer("Max", 30), "would make"),
    "broadcast over 70 axes": (outer("Sum", 70), "at most 32 sizes"),
    "gathered often": (model(
        nodes=[node("Gather", ("w", "i"), ("big",)), node("Add", ("x", "big"), ("y",))],
        tensors=[tensor("w", (2, 40_000), 1, bytes(320_000)), tensor("i", (40_000,), 7, bytes(320_000))]),
        "would make"),
}
FILES = {
    "empty": (b"", "empty: not an ONNX model"), "zeros": (bytes(100), "damaged"), "a text": (b"hello, world",
        "damaged"),
    "a pickle": (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\7payload\x94.", "damaged|no graph"),
    "a group": (b"\x0b" + bytes(8), "wire type 3"), "an endless number": (b"\xff" * 50, "more than 10 bytes"),
    "a length beyond the end": (field(1, 8) + varint(7 << 3 | 2) + varint(2**40),
        "says it has 1,099,511,627,776 bytes"),
    "a length of 2**64 - 1": (varint(7 << 3 | 2) + varint(2**64 - 1), "says it has 18,446"),
    "a zip": (b"PK\3\4" + bytes(60), "damaged|truncated|no graph"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(data, message, reader=load, factor=40, memory=2**21):
    """Assert that the file is refused with that message, and that at most `memory` and a few times its size is used."""
    path = Path("hostile.onnx")
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=message) as caught:
            reader(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000
    assert peak < memory + factor * len(data)


@pytest.mark.parametrize("case", TENSORS)
@pytest.mark.parametrize("reader", [load, load_tensors])
def test_promise_4_a_hostile_tensor_raises_file_format_error(here, case, reader):
    data, message = TENSORS[case]
    refuse(model(tensors=[data]), message, reader)


@pytest.mark.parametrize("case", [name for name in TENSORS if "name" not in name])
def test_promise_4_a_hostile_tensor_in_an_attribute_raises_file_format_error(here, case):
    data, message = TENSORS[case]
    refuse(model(nodes=[node("Constant", (), ("y",), [attribute("value", 4, field(5, data))])]), message)


@pytest.mark.parametrize("case", GRAPHS)
def test_promise_4_a_hostile_graph_raises_file_format_error(here, case):
    refuse(*GRAPHS[case], factor=60, memory=2**24)  # what constants computed from others may take


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("reader", [load, load_tensors])
def test_promise_4_a_file_that_is_no_model_raises_file_format_error(here, case, reader):
    refuse(*FILES[case], reader)


def beside(location="weights.bin", offset=None, length=None, kind=1):
    told = {"location": location, "offset": offset, "length": length}
    entries = [field(1, key) + field(2, str(text)) for key, text in told.items() if text is not None]
    return model(nodes=[node("Add", ("x",
        "w"))], tensors=[tensor(raw=None, more=fields(13, entries) + field(14, kind))])


def test_data_beside_the_file_are_read(here):
    Path("weights.bin").write_bytes(raw(0, 1, 2, 3, dtype=np.float32))
    Path("a.onnx").write_bytes(beside(offset=4, length=8))
    np.testing.assert_array_equal(load_tensors("a.onnx")["w"], np.float32([1, 2]))
    np.testing.assert_array_equal(load("a.onnx")(minidl.tensor([10.0, 10.0])).array, [11, 12])


def test_promise_4_data_beside_the_file_are_claimed_once_only(here):
    Path("weights.bin").write_bytes(bytes(8))
    entry = field(13, field(1, "location") + field(2, "weights.bin")) + field(14, 1)
    refuse(model(tensors=[tensor(f"w{i}", raw=None, more=entry) for i in range(2)]), "taken all but 0 bytes already")


def test_promise_4_of_a_large_file_beside_it_no_more_is_read_than_the_tensors_need(here):
    with open("weights.bin", "wb") as stream:
        stream.truncate(2**34)
    Path("a.onnx").write_bytes(beside(offset=2**33))
    tracemalloc.start()
    try:
        assert load_tensors("a.onnx")["w"].tolist() == [0, 0] and tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_promise_4_a_sound_file_claims_no_more_than_is_said(here):
    wide = model(nodes=[node("MatMul", ("x", "w"))], tensors=[tensor("w", (512, 512), 1, bytes(2**20))])
    names = ["x", *(f"v{i}" for i in range(2000)), "y"]
    long = model(nodes=[node("Add", (a, "w"), (b,), name="a") for a, b in zip(names, names[1:])], tensors=[tensor()])
    for data, factor in ((wide, 4), (long, 100)):
        Path("a.onnx").write_bytes(data)
        tracemalloc.start()
        try:
            load("a.onnx")
            assert tracemalloc.get_traced_memory()[1] < factor * len(data)
        finally:
            tracemalloc.stop()


OUTSIDE = {
    "a path upwards": dict(location="../weights.bin"), "an absolute path": dict(location="/etc/passwd"),
    "a folder below": dict(location="inner/weights.bin"),
    "another way to write a path": dict(location="..\\weights.bin"),
    "a drive": dict(location="C:weights.bin"), "the folder": dict(location="."), "nothing": dict(location=""),
    "a zero byte": dict(location="weights.bin\0"), "a link": dict(location="link"), "a pipe": dict(location="pipe"),
    "a file that is not there": dict(location="missing.bin"), "a long name": dict(location="w" * 5000),
    "beyond the end": dict(offset=12), "a negative offset": dict(offset=-4), "a huge offset": dict(offset=2**62),
    "another length": dict(length=12), "an offset that is a text": dict(offset="a"),
    "an offset of a thousand digits": dict(offset="9" * 1000),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_promise_4_data_outside_of_the_folder_or_the_file_are_refused(here, case):
    (here / "model").mkdir()
    (here / "model" / "inner").mkdir()
    os.chdir("model")
    for place in ("weights.bin", "../weights.bin", "inner/weights.bin"):
        Path(place).write_bytes(bytes(16))
    Path("link").symlink_to("weights.bin")
    os.mkfifo("pipe")
    refuse(beside(**OUTSIDE[case]), "its data are said to be|are no places in a file")


def sound():
    """A small file of many kinds of fields that loads."""
    weights = [tensor("w", (2, 2), 1, raw(1, 2, 3, 4, dtype=np.float32)), tensor("s", (2,), 7, raw(1, -1)),
               tensor("h", (2,), 1, None, field(4, raw(5, 6, dtype=np.float32)))]
    nodes = [node("MatMul", ("x", "w"), ("a",), name="/fc/MatMul"), node("Add", ("a", "h"), ("b",)),
             node("Elu", ("b",), ("c",), [attribute("alpha", 1, field(2, 0.5))]), node("Reshape", ("c", "s"), ("y",))]
    return model(nodes=nodes, tensors=weights, inputs=[value("x", ("N", 2))], outputs=[value("y", (1, "M"))])


def test_promise_4_truncation_at_every_byte_raises(here):
    data, path = sound(), Path("file.onnx")
    path.write_bytes(data)
    assert load(path)(minidl.ones(1, 2)).shape == (1, 2)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        for reader in (load, load_tensors):
            try:  # a file may end between two fields of the model, behind its graph
                reader(path)
            except FileFormatError:
                continue
            assert reader is load_tensors and length > len(data) - 6


def test_promise_4_flipped_bits_raise_file_format_error_or_change_only_values(here):
    data, rng, path = sound(), np.random.default_rng(0), Path("file.onnx")
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            load(path)
        except FileFormatError:
            refused += 1
    assert refused > 250 and os.listdir() == [path.name]


def described(**changes):
    network = minidl.nn.Linear(2, 2)
    whole = {"class": "onnx.Graph", "children": [{"name": "fc", **structure(network)}],
             "config": {"inputs": ["x"], "steps": [["fc", [0], 1]], "results": [1], "outputs": ["y"]}}
    whole["config"] |= changes
    return whole


ARCHITECTURES = {
    "a step that takes its own result": dict(steps=[["fc", [1], 1]]),
    "a step of a later one": dict(steps=[["fc", [9], 1]]),
    "a number that is a text": dict(steps=[["fc", ["0"], 1]]), "a number that is True": dict(steps=[["fc", [True], 1]]),
    "no outputs": dict(results=[]), "a result that is not there": dict(results=[2]),
    "results missing": dict(results=[-1]),
    "a path that is a number": dict(steps=[[0, [0], 1]]), "a long path": dict(steps=[[LONG, [0], 1]]),
    "a million outputs": dict(steps=[["fc", [0], 10**6]]), "a step of four": dict(steps=[["fc", [0], 1, 1]]),
    "steps that are an object": dict(steps={}), "something more": dict(more=[]), "a long name": dict(inputs=[LONG]),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_promise_4_a_hostile_architecture_of_a_graph_raises_file_format_error(case):
    assert build(described())(minidl.ones(1, 2)).shape == (1, 2)
    with pytest.raises(FileFormatError, match="architecture: the model"):
        build(described(**ARCHITECTURES[case]))


@pytest.mark.parametrize("path", ["__class__", "fc.weight", "forward", "fc.__init__", "missing", "", "_plan"])
def test_a_step_calls_modules_and_nothing_else(path):
    with pytest.raises(RuntimeError, match="no module at"):
        build(described(steps=[[path, [0], 1]]))(minidl.ones(1, 2))


@pytest.mark.parametrize("config", [
    dict(operator="os.system"), dict(operator="Elu", attributes=[["alpha", "a"]]),
    dict(operator="Elu", attributes=[["function", 1]]), dict(operator="Elu", attributes=[[["alpha"], 1]]),
    dict(operator="Elu", attributes=["ab"]), dict(operator=1)])
def test_promise_4_a_hostile_operation_raises_file_format_error(config):
    with pytest.raises(FileFormatError, match="Operation"):
        build({"class": "onnx.Operation", "config": config})


@pytest.mark.parametrize("config", [
    dict(names=["forward"], shapes=[[1]]), dict(names=["_x"], shapes=[[1]]), dict(names=["a"], shapes=[[2**40]]),
    dict(names=["a"], shapes=[[2**17, 2**17]]), dict(names=["a", "a"], shapes=[[1], [1]]), dict(names=["a"], shapes=[]),
    dict(names=["a"], shapes=[[-1]]), dict(names=["a"], shapes=[[1]], element_type="object"),
    dict(names=["names"], shapes=[[1]]), dict(names=["a"], shapes=[[1]], element_type="int8", trained=True)])
def test_promise_4_hostile_constants_raise_file_format_error(config):
    with pytest.raises(FileFormatError, match="Constants|more than fits"):
        build({"class": "onnx.Constants", "config": config}, limit=2**20)


def test_a_saved_network_is_read_without_the_file_it_came_from(here):
    path = Path("file.onnx")
    path.write_bytes(sound())
    network = load(path)
    save(network, "network.safetensors")
    path.unlink()
    x = minidl.randn(1, 2)
    np.testing.assert_array_equal(minidl.load("network.safetensors")(x).array, network(x).array)
