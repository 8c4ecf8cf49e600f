"""Make keras_files.npz: small files as Keras 3 and Keras 2 write them, inputs and outputs, and hostile HDF5 files.

Run with Keras 3.15 (any backend) and h5py 3.16 installed: `python tests/golden/make_keras_files.py`. The tests read the
files without either.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import keras
import numpy as np
from keras import layers as L

OUT = Path(__file__).with_name("keras_files.npz")
RNG = np.random.default_rng(0)


def networks():
    yield "image", keras.Sequential([
        keras.Input((9, 8, 3)), L.Conv2D(4, 3, padding="same", activation="relu", name="c1"),
        L.BatchNormalization(momentum=0.9, epsilon=2e-3), L.DepthwiseConv2D((3, 2), depth_multiplier=2),
        L.SeparableConv2D(5, 3, padding="same", depth_multiplier=1), L.MaxPooling2D(2),
        L.Conv2DTranspose(6, (2, 3), strides=(2, 3), activation="relu"), L.Flatten(), L.BatchNormalization(),
        L.Dropout(0.5), L.Dense(7, activation="relu"), L.Dense(3),
    ], name="image")
    yield "text", keras.Sequential([
        keras.Input((6,), dtype="int32"), L.Embedding(11, 5), L.Bidirectional(L.LSTM(4, return_sequences=True)),
        L.GRU(3, return_sequences=True), L.SimpleRNN(4, return_sequences=True), L.LayerNormalization(),
        L.TimeDistributed(L.Dense(2), name="steps"), L.Flatten(), L.Dense(2, name="logits"),
    ], name="text")
    yield "signal", keras.Sequential([
        keras.Input((11, 2)), L.Conv1D(6, 3, strides=2, padding="same"), L.PReLU(shared_axes=[1]),
        L.GroupNormalization(3), L.Conv1DTranspose(4, 3, strides=1), L.AveragePooling1D(2), L.Flatten(), L.Dense(2),
    ], name="signal")
    backbone = keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(4, 3, strides=2, padding="same", name="stem"),
                                 L.BatchNormalization(center=False, scale=False, name="norm"), L.ReLU()],
                                name="backbone")
    entry = keras.Input((6, 6, 2))
    x = backbone(entry)
    y = L.Conv2D(4, 1, use_bias=False, groups=2, name="mix")(x)
    x = L.Add()([x, y])
    head = keras.Sequential([keras.Input((36,)), L.Dense(5, activation="relu", name="hidden"), L.Dense(2, name="out")],
                            name="head")
    yield "nested", keras.Model(entry, head(L.Flatten()(x)), name="nested")


def randomise(model):
    for weight in model.weights:
        values = RNG.normal(size=weight.shape) * 0.5
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)


def saved(save, name):
    """The bytes that `save(path)` writes to a file of that name."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        save(path)
        return np.fromfile(path, np.uint8)


def save_as_keras_2(model, path, whole, longest=1000):
    """The layout of Keras 2: fixed-length names that end in ":0", long lists of them spread over several attributes."""
    def put(group, name, texts):
        texts = np.array([text.encode() for text in texts])
        if texts.nbytes <= longest:
            group.attrs[name] = texts
        else:
            for number, part in enumerate(np.array_split(texts, -(-texts.nbytes // longest))):
                group.attrs[f"{name}{number}"] = part

    old = {"depthwise_conv2d": "depthwise_kernel"}
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        put(root, "layer_names", [layer.name for layer in model.layers])
        root.attrs["keras_version"] = b"2.3.1"
        for layer in model.layers:
            group, names = root.create_group(layer.name), []
            for weight in layer.trainable_weights + layer.non_trainable_weights:
                *_, owner, name = weight.path.split("/")
                name = old.get(layer.name, name) if name == "kernel" else name
                inner = weight.path.split("/")[1:-2] if "lstm" in weight.path else []
                names.append("/".join([*inner, owner, f"{name}:0"]))
                if not whole and layer.name == "dense_1":  # as older files call them
                    names[-1] = f"dense_1_{'W' if name == 'kernel' else 'b'}_1:0"
                group[names[-1]] = weight.numpy()
            put(group, "weight_names", names)
        if whole:
            config = {"class_name": type(model).__name__, "config": json.loads(model.to_json())["config"]}
            strip(config)
            file.attrs["model_config"] = json.dumps(config).encode()


def strip(node):
    """Leave out of a configuration what Keras 2 did not write."""
    for value in list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(value, (dict, list)):
            strip(value)
    if isinstance(node, dict):
        for key in ("build_config", "module", "registered_name"):
            node.pop(key, None)


def hostile():
    """HDF5 files of which each does one thing that no file of Keras does."""
    def base(file):
        file.attrs["layer_names"] = ["dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = ["dense/kernel"]
        return group.create_group("dense")

    def case(name, fill, **options):
        def save(path):
            with h5py.File(path, "w", **options) as file:
                fill(base(file), file)
        return f"hostile/{name}", saved(save, "x.h5")

    plain = np.arange(6, dtype=np.float32).reshape(2, 3)

    def put(value):
        return lambda group, file: group.__setitem__("kernel", value)

    yield case("good", put(plain))
    yield case("external link", put(h5py.ExternalLink("/etc/passwd", "/x")))
    yield case("soft link", put(h5py.SoftLink("/dense")))

    def external(group, file):
        group.create_dataset("kernel", (2, 3), "f4", external=[("/etc/passwd", 0, 24)])
    yield case("external storage", external)

    def virtual(group, file):
        layout = h5py.VirtualLayout((2, 3), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2, 3))
        group.create_virtual_dataset("kernel", layout)
    yield case("virtual", virtual, libver="latest")

    yield case("texts", put(np.array(["a", "b"], object)))
    yield case("fixed texts", put(np.array([b"a", b"b"])))
    yield case("a structure", put(np.zeros(2, [("a", "f4")])))
    yield case("a boolean", put(np.array([True])))
    yield case("complex", put(np.zeros(2, np.complex64)))

    def reference(group, file):
        group.create_dataset("kernel", (1,), h5py.ref_dtype)[0] = file.ref
    yield case("a reference", reference)

    def sequence(group, file):
        group.create_dataset("kernel", (1,), h5py.vlen_dtype(np.float32))[0] = [1, 2]
    yield case("a sequence", sequence)

    def empty(shape, **options):
        return lambda group, file: group.create_dataset("kernel", shape, "f4", **options)
    yield case("never written", empty((2, 3)))
    yield case("huge and never written", empty((2**20, 2**20)))
    yield case("huge chunks never written", empty((2**20, 2**20), chunks=(2**10, 2**10), fillvalue=1.0))
    yield case("a bomb", lambda group, file: group.create_dataset(
        "kernel", data=np.zeros((2**12, 2**11), np.float32), chunks=(2**12, 2**11), compression="gzip",
        compression_opts=9))
    yield case("one chunk of many", lambda group, file: group.create_dataset(
        "kernel", (1000, 100), "f4", chunks=(10, 10)).__setitem__((slice(0, 10), slice(0, 10)), 1))

    def another_filter(group, file):
        group.create_dataset("kernel", data=plain, chunks=(2, 3), compression="lzf")
    yield case("another filter", another_filter)

    def circle(group, file):
        group["kernel"] = plain
        group["again"] = file["dense"]
    yield case("a circle", circle)

    def two_names(group, file):
        group["kernel"] = plain
        group["same"] = group["kernel"]
    yield case("two names", two_names)

    def deep(group, file):
        group["kernel"] = plain
        for _ in range(100):
            group = group.create_group("g")
    yield case("deep", deep)

    def many(group, file):
        group["kernel"] = plain
        for number in range(20):
            group[f"more{number}"] = number
    yield case("many members of the new form", many, libver="latest")

    def wrong(name, value):
        def fill(group, file):
            group["kernel"] = plain
            (file if name != "weight_names" else file["dense"]).attrs[name] = value
        return fill
    yield case("no group", wrong("layer_names", ["dense", "other"]))
    yield case("no array", wrong("weight_names", ["dense/bias"]))
    yield case("a path upwards", wrong("weight_names", ["../dense/dense/kernel"]))
    yield case("listed twice", wrong("weight_names", ["dense/kernel", "dense/kernel"]))
    yield case("names that are numbers", wrong("layer_names", [1, 2]))
    yield case("names that are no text", wrong("weight_names", np.array([b"\xff\xfe"])))
    yield case("no configuration", wrong("model_config", "{'class_name': __import__('os').system('touch pwned')}"))
    yield case("a nested configuration", wrong("model_config", '{"a":' * 9000 + "1" + "}" * 9000))
    chain = "x"
    for _ in range(40):
        chain = {"class_name": "Sequential", "config": {"name": "s", "layers": [chain]}}
    yield case("networks in networks", wrong("model_config", json.dumps(chain)))
    lamb = {"class_name": "Sequential", "config": {"name": "s", "layers": [
        {"class_name": "Lambda", "config": {"name": "l", "function": {
            "class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAAAAAAAAEAAAADAAAA8wQAAACXAHkA"}}}},
        {"class_name": "Dense", "config": {"name": "dense"}, "module": "os", "registered_name": "system"}]}}
    yield case("code", wrong("model_config", json.dumps(lamb)))
    name, data = case("one text many times", wrong("weight_names", ["x" * 60_000, *("y" for _ in range(3000))]))
    first = data.tobytes().index((60_000).to_bytes(4, "little"))
    data[first:first + 16 * 3001] = np.tile(data[first:first + 16], 3001)
    yield name, data


def save_pieces(path, libver):
    """Whatever of HDF5 is read: types, byte orders, chunks and filters, in groups `vars` as Keras 3 names them."""
    values = np.random.default_rng(1).normal(size=(40, 33))
    with h5py.File(path, "w", libver=libver) as file:
        group = file.create_group("layers/thing/vars")
        group["0"] = values[:5, :7].astype(">f4")
        group["1"] = np.arange(-3, 3)
        group["2"] = 3.5
        group["3"] = values[0].astype(np.float16)
        group["4"] = np.arange(5, dtype=np.uint8)
        bits = (values[0].astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        group.create_dataset("5", data=bits.view("V2")).attrs["dtype"] = "bfloat16"
        if libver == "earliest":
            packed = file.create_group("layers/packed/vars")
            packed.create_dataset("0", data=values, chunks=(16, 8), compression="gzip", shuffle=True, fletcher32=True)
            packed.create_dataset("1", data=np.arange(2100).reshape(300, 7), chunks=(4, 7))
            many = file.create_group("layers/many/vars")
            for number in range(40):
                many[str(number)] = np.full(2, number, np.int16)


def main():
    found = {}
    for name, model in networks():
        randomise(model)
        shape = model.inputs[0].shape[1:]
        x = RNG.integers(0, 11, (3, *shape)) if name == "text" else RNG.normal(size=(3, *shape)).astype(np.float32)
        found[f"{name}/input"], found[f"{name}/output"] = x, model.predict(x, verbose=0)
        for ending in ("keras", "h5"):
            found[f"{name}.{ending}"] = saved(model.save, f"x.{ending}")
        found[f"{name}.weights.h5"] = saved(model.save_weights, "x.weights.h5")
        if name in ("image", "text"):
            for whole in (True, False):
                kind = "whole" if whole else "weights"
                found[f"{name}_2_{kind}.h5"] = saved(lambda path, m=model, w=whole: save_as_keras_2(m, path, w), "x.h5")
    found.update(hostile())
    for libver in ("earliest", "latest"):
        found[f"pieces_{libver}.h5"] = saved(lambda path, v=libver: save_pieces(path, v), "x.h5")
    np.savez_compressed(OUT, **found)


if __name__ == "__main__":
    main()
