"""What the fuzzer reads: for each kind of file sound files, the mutations that fit, and the functions that read it.

`kinds(folder)` makes the sound files with minidl's own writers, or takes them from tests/golden.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pickle_parts
from data_builders import cifar_binary, cifar_python, cifar_shard, idx, some_images, tar_gz
from transfer_networks import X, trained

import minidl
from minidl import nn, transfer
from minidl.data import BPETokenizer, CharTokenizer, Vocabulary, WordPieceTokenizer, WordTokenizer
from minidl.data.cifar import read_archive, read_binary, read_python, read_shard
from minidl.data.files import IDX_IMAGES, IDX_LABELS, read_idx
from minidl.data.text import rt_polarity, sms_spam
from minidl.models import bert_from_pretrained
from minidl.nn.module import Module

GOLDEN = Path(__file__).with_name("golden")
NAMES = (
    "model.safetensors", "filled.safetensors", "tensors.npz", "zipped.pth", "legacy.th", "whole.h5", "only.weights.h5",
    "archive.keras", "network.onnx", "adapters.safetensors", "peft/adapter_config.json", "ledger.json",
    "architecture.json", "bert/config.json", "bert/vocab.txt", "bert/tokenizer.json", "bert/model.safetensors",
    "idx images", "idx labels.gz", "cifar batch.bin", "cifar batch", "cifar.tar.gz", "cifar.npz", "vocabulary.json",
    "text/SMSSpamCollection", "text/rt-polarity.neg", "tokenizer.json", "pieces/vocab.txt", "pairs/vocab.json",
)
COUNT = 3  # images in a batch
SMALL = {"vocab_size": 12, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5,
         "max_position_embeddings": 6, "type_vocab_size": 2}


class Kind(NamedTuple):
    """A kind of file.

    seeds: sound files. formats: for `fuzz_mutations.choose`. read: (path, model) -> anything. model: makes the model
    that is filled. also: what lies beside the file, by name.
    """

    name: str
    seeds: list[bytes]
    formats: tuple[str, ...]
    read: Callable
    model: Callable[[], Module | None] = lambda: None
    also: dict[str, bytes] = {}


class TiedEnds(nn.Module):
    def __init__(self, width: int = 4):
        self.width = width
        self.table, self.out = nn.Embedding(7, width), nn.Linear(width, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x):
        return self.out(self.table(x))


def varied(model):
    for seed, value in enumerate(model.state_dict().values()):
        if value.dtype.kind == "f":
            value.array[...] = np.random.default_rng(seed).uniform(0.5, 1, value.shape)
    return model


def convolutional():
    return varied(nn.Sequential({
        "body": nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        "flat": nn.Flatten(), "head": nn.Linear(16, 3)}))


def recurrent():
    return varied(nn.Sequential(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.LSTM(4, 3)))


def adapted():
    model = trained()
    transfer.lora(model, "body", rank=2, also="head", generator=np.random.default_rng(0))
    return model


def saved(folder, name, write):
    write(folder / name)
    return (folder / name).read_bytes()


def model_files(folder):
    transfer.register(TiedEnds)
    yield saved(folder, "a.safetensors", lambda path: transfer.save(
        trained(), path, classes=["a", "b", "c"], preprocessing={"mean": [0.1], "std": [2.0]}, licence="MIT",
        provenance="nothing", probe=X))
    yield saved(folder, "b.safetensors", lambda path: transfer.save(convolutional(), path, probe=(2, 4, 4)))
    yield saved(folder, "c.safetensors", lambda path: transfer.save(recurrent(), path))
    yield saved(folder, "d.safetensors", lambda path: transfer.save(
        varied(TiedEnds()), path, probe=minidl.tensor(np.array([[1, 2]]))))


def ledger_file(path):
    model = trained()
    transfer.freeze(model, "body")
    with transfer.ledger(model).training():
        pass
    transfer.ledger(model).save(path)


def read_ledger(path, model):
    found = transfer.Ledger.load(path)
    return str(found), found.table(), repr(found.verify(model)), found.diff(transfer.ledger(model))


def tensors_and(load):
    def read(path, model):
        try:
            transfer.load_tensors(path)
        finally:
            load(path, model)
    return read


def into(path, model):
    transfer.load(path, model)


def bert_small():
    return minidl.models.BertModel(**SMALL)


def bert_files(folder):
    config = json.dumps({**SMALL, "model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12}).encode()
    vocabulary = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefg"]).encode()
    tokenizer = json.dumps({"model": {"vocab": {word: i for i, word in enumerate(vocabulary.decode().split())}},
                            "added_tokens": [{"content": "[PAD]", "id": 0}]}).encode()
    tensors = saved(folder, "bert.safetensors", lambda path: transfer.save_tensors(bert_small().state_dict(), path))
    return {"config.json": config, "vocab.txt": vocabulary, "tokenizer.json": tokenizer, "model.safetensors": tensors}


def bert_kinds(folder):
    files = bert_files(folder)
    formats = {"config.json": ("json",), "vocab.txt": ("lines",), "tokenizer.json": ("json",),
               "model.safetensors": ("safetensors",)}
    for name, kinds in formats.items():
        yield Kind(f"bert/{name}", [files[name]], kinds, lambda path, _: bert_from_pretrained(path.parent),
                   also={other: data for other, data in files.items() if other != name})


def keras(*names):
    golden = np.load(GOLDEN / "keras_files.npz")
    return [golden[name].tobytes() for name in names]


def keras_model():
    return varied(nn.Sequential({"dense": nn.Linear(2, 3, bias=False)}))


def keras_archive():
    """A `.keras` file that fits the model."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        good = keras("hostile/good")[0]
        for name, data in {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": good}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def torch_files():
    """Files of PyTorch, in both formats, that fit the trained network."""
    items, storages = {}, {}
    for place, (name, value) in enumerate(trained().state_dict().items()):
        array, kind = value.numpy(), "torch LongStorage" if value.dtype.kind == "i" else "torch FloatStorage"
        strides = [step // array.itemsize for step in array.strides]
        items[name] = pickle_parts.tensor(array.shape, strides,
                                          of=pickle_parts.storage(array.size, str(place), kind))
        storages[str(place)] = array.tobytes()
    counts = [value.numpy().size for value in trained().state_dict().values()]
    body = pickle_parts.mapping(**items)
    return pickle_parts.zipped(body, storages), pickle_parts.legacy(body, storages, counts=counts)


def data_kinds():
    images, labels = some_images(COUNT, 3, 32)
    grey = some_images(COUNT, 1, 28)[0][:, 0]
    archived = tar_gz({"c/test_batch": cifar_python(images, labels), "c/x.bin": cifar_binary(images, labels)})
    yield Kind("idx images", [idx(grey)], (), lambda path, _: read_idx(path, IDX_IMAGES, (60000, 28, 28)))
    yield Kind("idx labels.gz", [gzip.compress(idx(labels))], ("gzip",),
               lambda path, _: read_idx(path, IDX_LABELS, (60000,)))
    yield Kind("cifar batch.bin", [cifar_binary(images, labels)], (), lambda path, _: read_binary(path, COUNT))
    yield Kind("cifar batch", [cifar_python(images, labels)], ("pickle",), lambda path, _: read_python(path, COUNT))
    yield Kind("cifar.tar.gz", [archived], ("gzip",),
               lambda path, _: read_archive(path, ["test_batch", "x.bin"], COUNT))
    yield Kind("cifar.npz", [cifar_shard(images, labels)], ("zip",), lambda path, _: read_shard(path))


def each(*readers):
    """Reads the file in every one of these ways; raises if none can."""
    def read(path, model):
        failures = []
        for reader in readers:
            try:
                reader(path)
            except minidl.FileFormatError as error:
                failures.append(error)
        if len(failures) == len(readers):
            raise failures[0]
    return read


def text_kinds(folder):
    plain = [saved(folder, "words", WordTokenizer.train("the cat the dog").save),
             saved(folder, "signs", CharTokenizer.train("abc").save), saved(folder, "v", Vocabulary(list("abc")).save)]
    yield Kind("vocabulary.json", plain, ("json",), each(Vocabulary.load, WordTokenizer.load, CharTokenizer.load))
    yield Kind("text/SMSSpamCollection", [b"ham\thello\nspam\tbuy\nham\tme\n"], ("lines",),
               lambda path, _: sms_spam("all", root=path.parent.parent))
    yield Kind("text/rt-polarity.neg", [b"bad\nworse\n"], ("lines",),
               lambda path, _: rt_polarity("all", root=path.parent.parent), also={"rt-polarity.pos": b"good\nbetter\n"})


def library_kinds():
    """Tokenisers that are read by the tokenizers library; none without it."""
    try:
        import tokenizers
    except ImportError:
        return
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "the"]
    pairs = tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
    pieces = tokenizers.models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    files = [tokenizers.Tokenizer(model).to_str().encode() for model in (pairs, pieces)]
    yield Kind("tokenizer.json", files, ("json",), each(BPETokenizer.load, WordPieceTokenizer.load))
    yield Kind("pieces/vocab.txt", ["\n".join(words).encode()], ("lines",),
               lambda path, _: WordPieceTokenizer.load(path))
    yield Kind("pairs/vocab.json", [b'{"a": 0, "b": 1, "ab": 2}'], ("json",),
               lambda path, _: BPETokenizer.load(path.parent), also={"merges.txt": b"#version: 0.2\na b\n"})


def kinds(folder):
    """Every kind of file, by name."""
    models = list(model_files(folder))
    tensors = {name: value.numpy() for name, value in trained().state_dict().items()}
    arrays = [saved(folder, "a.npz", lambda path: transfer.save_tensors(tensors, path)),
              saved(folder, "b.npz", lambda path: np.savez_compressed(path, **tensors))]
    torch = GOLDEN / "torch_files"
    fitting = torch_files()
    zipped = [fitting[0], *((torch / name).read_bytes()
                            for name in ("bare.pt", "sample.pt", "checkpoint.pth", "module.pt"))]
    legacy = [fitting[1], *((torch / f"{name}_legacy.pth").read_bytes()
                            for name in ("sample", "sample_protocol_4", "checkpoint"))]
    onnx = [(GOLDEN / "onnx" / f"{name}.onnx").read_bytes() for name in ("mobilenet", "gru", "rnn", "lstm", "decoder")]
    lora = saved(folder, "lora.safetensors", lambda path: transfer.save_lora(adapted(), path))
    peft = {f"base_model.model.body.0.lora_{part}.weight": np.ones(shape, np.float32)
            for part, shape in (("A", (2, 6)), ("B", (8, 2)))}
    peft_file = saved(folder, "peft.safetensors", lambda path: transfer.save_tensors(peft, path))
    structures = [json.dumps(transfer.structure(model)).encode()
                  for model in (trained(), convolutional(), recurrent(), varied(TiedEnds()))]
    found = [
        Kind("model.safetensors", models, ("safetensors",), lambda path, _: transfer.load(path)),
        Kind("filled.safetensors", models[:1], ("safetensors",), tensors_and(into), trained),
        Kind("tensors.npz", arrays, ("zip",), tensors_and(into), trained),
        Kind("zipped.pth", zipped, ("zip",), tensors_and(into), trained),
        Kind("legacy.th", legacy, ("pickle",), tensors_and(into), trained),
        Kind("whole.h5", keras("hostile/good", "image_2_whole.h5", "text.h5"), ("hdf5",), tensors_and(into),
             keras_model),
        Kind("only.weights.h5", keras("text.weights.h5", "image.weights.h5"), ("hdf5",), tensors_and(into),
             keras_model),
        Kind("archive.keras", [keras_archive(), *keras("text.keras", "nested.keras")], ("zip",), tensors_and(into),
             keras_model),
        Kind("network.onnx", onnx, ("protobuf",), tensors_and(lambda path, _: transfer.load(path))),
        Kind("adapters.safetensors", [lora], ("safetensors",), lambda path, model: transfer.load_lora(path, model),
             trained),
        Kind("peft/adapter_config.json", [b'{"lora_alpha": 8, "use_dora": false, "r": 2}'], ("json",),
             lambda path, model: transfer.load_lora(path.parent, model), trained,
             {"adapter_model.safetensors": peft_file}),
        Kind("ledger.json", [saved(folder, "ledger", ledger_file)], ("json",), read_ledger, trained),
        Kind("architecture.json", structures, ("json",),
             lambda path, _: transfer.build(path.read_bytes(), limit=2**20)),
        *bert_kinds(folder), *data_kinds(), *text_kinds(folder), *library_kinds(),
    ]
    return {kind.name: kind for kind in found}
