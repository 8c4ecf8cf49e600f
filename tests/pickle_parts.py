"""Pickles and PyTorch files put together byte by byte, for tests of what may not be in them."""

import io
import pickle
import struct
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def several(*values):
    return b"(" + b"".join(values) + b"t"


def name(path):
    module, attribute = path.split(" ")
    return f"c{module}\n{attribute}\n".encode()


def call(path, *arguments):
    return name(path) + several(*arguments) + b"R"


def mapping(**items):
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(length=4, key="0", kind="torch FloatStorage"):
    return several(text("storage"), name(kind), text(key), text("cpu"), number(length)) + b"Q"


def view(start, length):
    """A part of a storage of 4 numbers, as the old format describes it."""
    place = several(text("v"), number(start), number(length))
    return several(text("storage"), name("torch FloatStorage"), text("0"), text("cpu"), number(4), place) + b"Q"


def tensor(shape=(4,), stride=(1,), offset=0, of=None):
    place = (number(offset), several(*map(number, shape)), several(*map(number, stride)))
    return call("torch._utils _rebuild_tensor_v2", of or storage(), *place, b"\x89", call("collections OrderedDict"))


def program(body):
    return b"\x80\x02" + body + b"."


def zipped(body, storages=None, root="archive", compression=zipfile.ZIP_STORED, **more):
    """A file in the zip format with this pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", program(body))
        for key, data in ({"0": bytes(16)} if storages is None else storages).items():
            archive.writestr(f"{root}/data/{key}", data)
        for entry, data in more.items():
            archive.writestr(f"{root}/{entry}", data)
    return stream.getvalue()


def legacy(body, storages=None, magic=MAGIC, protocol=1001, little=True, keys=None, counts=None):
    """A file in the format before PyTorch 1.6."""
    storages = {"0": bytes(16)} if storages is None else storages
    parts = [pickle.dumps(value, 2) for value in (magic, protocol, {"little_endian": little})]
    parts += [program(body), pickle.dumps(list(storages) if keys is None else keys, 2)]
    for index, data in enumerate(storages.values()):
        parts.append(struct.pack("<q", len(data) // 4 if counts is None else counts[index]) + data)
    return b"".join(parts)
