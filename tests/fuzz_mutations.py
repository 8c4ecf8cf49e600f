"""Seeded mutations of files, some of which know what a format looks like inside.

A mutation takes a random generator and the bytes of a sound file and gives other bytes. `choose` lists what may be done
to a kind of file; where the content is not what a mutation expects, some bytes are changed instead. `fuzzing.py` uses
them.
"""

import gzip
import io
import json
import pickletools
import warnings
import zipfile

from onnx_parts import varint

LENGTHS = (0, 1, 2, 7, 8, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
TEXTS = ("", "a", "../../etc/passwd", "/etc/passwd", "__class__", "__init__", "os.system", "x" * 5_000, "\0",
         "\ud800", "é" * 40, "Linear", "weight", "null", "-1", "float32", "F64", "%s{}", "0")
VALUES = (None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e308, 1e-320, 10**9, 2**31, 2**53, 2**62, 2**63, 2**64, 10**25,
          [], {}, [0], [[]], [-1], [2**62] * 3, [1] * 70, {"class": "Linear"}, {"shared": ""}, *TEXTS)
LARGEST = 2**18  # bytes of a mutated file
BOMB = io.BytesIO()
with zipfile.ZipFile(BOMB, "w", zipfile.ZIP_DEFLATED) as _archive:
    _archive.writestr("bomb", bytes(2**25))


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def place(rng, data, end=0):
    return int(rng.integers(max(len(data) - end, 1)))


def number(rng, size):
    """A length or an offset that is wrong, or right by chance, or near to the file's size."""
    near = size + int(rng.integers(-9, 9))
    return int(pick(rng, (*LENGTHS, near, near // 2, int(rng.integers(max(size, 1))))))


def flip(rng, data):
    changed = bytearray(data or b"\0")
    for where in rng.integers(len(changed), size=pick(rng, (1, 1, 2, 4, 16))):
        changed[where] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_front(rng, data):
    """Most formats describe at the front or at the end what comes between."""
    border = min(len(data), 512)
    return flip(rng, data[:border]) + data[border:] if rng.integers(2) else data[:-border] + flip(rng, data[-border:])


def set_byte(rng, data):
    where = place(rng, data)
    return data[:where] + bytes([pick(rng, (0, 1, 9, 10, 32, 34, 47, 127, 128, 255))]) + data[where + 1:]


def truncate(rng, data):
    return data[:place(rng, data)] if rng.integers(4) else data[place(rng, data):]


def extend(rng, data):
    return data + pick(rng, (b"\0", bytes(100), b"\xff" * 9, rng.bytes(50), data[:200]))


def duplicate(rng, data):
    start = place(rng, data)
    stop = start + pick(rng, (1, 4, 8, 40, 300))
    return data[:stop] * (2 if len(data) > 2000 else pick(rng, (2, 9))) if rng.integers(8) == 0 else \
        data[:stop] + data[start:]


def delete(rng, data):
    start = place(rng, data)
    return data[:start] + data[start + pick(rng, (1, 2, 4, 8, 100)):]


def swap(rng, data):
    one, other = sorted((place(rng, data), place(rng, data)))
    width = pick(rng, (1, 4, 8, 64))
    return data[:one] + data[other:other + width] + data[one + width:other] + data[one:one + width] + \
        data[other + width:] if one + width <= other else flip(rng, data)


def length(rng, data):
    """Another number where 1 to 8 bytes could be one, of either byte order."""
    width = pick(rng, (1, 2, 4, 8))
    where = place(rng, data, width)
    value = number(rng, len(data)) % 2**(8 * width)
    return data[:where] + value.to_bytes(width, pick(rng, ("little", "big"))) + data[where + width:]


def small_number(rng, data):
    """As `length`, at a place where a plausible length or offset stands now."""
    for _ in range(60):
        where = place(rng, data, 8) // 4 * 4
        width = pick(rng, (2, 4, 8))
        if 0 < int.from_bytes(data[where:where + width], "little") <= len(data):
            value = number(rng, len(data)) % 2**(8 * width)
            return data[:where] + value.to_bytes(width, "little") + data[where + width:]
    return length(rng, data)


ANY = (flip, flip_front, set_byte, truncate, extend, duplicate, delete, swap, length, small_number)


def splice(rng, data, other):
    """The front of one file and the end of another."""
    return data[:place(rng, data)] + other[place(rng, other):]


def wreck(rng, data):
    return pick(rng, ANY)(rng, data)


def nodes(value, parent=None, key=None):
    """Every value within JSON values, with what holds it."""
    yield parent, key, value
    if isinstance(value, (dict, list)):
        for inner, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield from nodes(item, value, inner)


def change_value(rng, value):
    """One value within JSON values replaced, removed, renamed, moved or nested."""
    value = json.loads(json.dumps(value))
    found = [node for node in nodes(value) if node[0] is not None]
    if not found:
        return pick(rng, VALUES)
    parent, key, old = pick(rng, found)
    deed = int(rng.integers(10))
    if deed < 4:
        parent[key] = pick(rng, VALUES)
    elif deed == 4:
        del parent[key]
    elif deed == 5 and isinstance(parent, dict):
        parent[pick(rng, TEXTS)] = parent.pop(key)
    elif deed == 6:
        parent[key] = json.loads(json.dumps(pick(rng, found)[2]))
    elif deed == 7:
        for _ in range(pick(rng, (1, 70, 300))):
            old = [old] if rng.integers(2) else {"children": [old], "class": "Sequential"}
        parent[key] = old
    elif deed == 8 and isinstance(old, (int, float)):
        parent[key] = pick(rng, (old + 1, old - 1, -old, old * 2**40, float(old), str(old), [old]))
    elif isinstance(parent, list):
        parent += [old] * pick(rng, (1, 50))
    else:
        parent[key] = [old] if isinstance(old, dict) else json.loads(json.dumps(pick(rng, found)[2]))
    return value


def dumped(rng, value):
    """JSON text, mostly; sometimes with a name twice, in another encoding, or with more than JSON has."""
    text = json.dumps(value)
    deed = int(rng.integers(40))
    if deed == 0:
        return text.encode("utf-16")
    if deed == 1:
        return b"\xef\xbb\xbf" + text.encode()
    if deed == 2:
        return text.replace("1", pick(rng, ("NaN", "-Infinity", "9" * 6000, "1e999")), 1).encode()
    if deed == 3 and '{"' in text:
        where = pick(rng, [i for i in range(len(text)) if text.startswith('{"', i)])
        name = text[where + 1:text.index('"', where + 2) + 1]
        return (text[:where + 1] + f"{name}: 0, " + text[where + 1:]).encode()
    if deed == 4:
        return text.encode() + pick(rng, (b" ", b"{}", b"\0", b"," * 9))
    if deed == 5:
        return pick(rng, (b"[", b'{"a":')) * pick(rng, (10, 2_000, 60_000))
    return text.encode()


def change_json(rng, data):
    try:
        return dumped(rng, change_value(rng, json.loads(data)))
    except (ValueError, RecursionError):  # changed before
        return wreck(rng, data)


def safetensors_header(rng, data):
    """The header of a safetensors file, or the JSON inside of its metadata, with the right length in front."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:8 + size])
        metadata = header.get("__metadata__", {})
        text = dumped(rng, change_value(rng, header))
    except (ValueError, AttributeError, RecursionError):
        return wreck(rng, data)
    fields = [key for key, text in metadata.items() if isinstance(text, str) and text[:1] in '{["'] \
        if isinstance(metadata, dict) else []
    if fields and rng.integers(4):
        key = pick(rng, fields)
        metadata[key] = change_json(rng, metadata[key].encode()).decode("latin-1")
        text = json.dumps(header).encode()
    if rng.integers(2):
        text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size:]


def safetensors_offsets(rng, data):
    """Shapes, dtypes and offsets of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:8 + size])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        entry = entries[pick(rng, list(entries))]
        field = pick(rng, ("dtype", "shape", "data_offsets"))
        if field == "dtype":
            entry[field] = pick(rng, ("F16", "F32", "F64", "BF16", "I64", "BOOL", "U8", "F8_E5M2", "C64", ""))
        else:
            entry[field][place(rng, entry[field])] = pick(rng, (*LENGTHS, -1, -8, 10**30, 4.0, "4", True))
        text = json.dumps(header).encode()
    except (ValueError, AttributeError, IndexError, TypeError, KeyError, RecursionError):
        return wreck(rng, data)
    return len(text).to_bytes(8, "little") + text + data[8 + size:]


def inner(rng, name, data):
    """The content of an entry of an archive, changed by what its name says that it is."""
    change = {"pkl": change_pickle, "json": change_json, "h5": change_hdf5, "npy": change_npy}.get(name.split(".")[-1])
    return (change if change and rng.integers(4) else wreck)(rng, data)


def change_npy(rng, data):
    """The header of an array: the text of a dict."""
    size = int.from_bytes(data[8:10], "little")
    header = data[10:10 + size]
    new = pick(rng, ((b"<f4", b"|O"), (b"'descr'", b"'dscr'"), (b"(", b"(9223372036854775807, "), (b"(", b"(-1, "),
                     (b"False", b"True"), (b"False", b"__import__('os')"), (b")", b")" * 50), (b"(", b"(" * 3000),
                     (b"<f4", b">f8"), (b"<f4", b"<U9"), (b"<f4", b"<f4,<i4"), (b"{", b"{'x': 1, ")))
    header = header.replace(*new, 1)
    return data[:8] + (len(header) % 2**16).to_bytes(2, "little") + header + data[10 + size:]


def change_zip(rng, data):
    """Entries of a zip archive changed, dropped, doubled, renamed, packed otherwise, or blown up."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                return wreck(rng, data)
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
            method = archive.infolist()[0].compress_type
        which = place(rng, entries)
        name, content = entries[which]
    except Exception:  # zipfile fails in every way on an archive that was changed before
        return wreck(rng, data)
    deed = int(rng.integers(12))
    if deed < 6:
        entries[which] = name, inner(rng, name, content)
    elif deed == 6:
        del entries[which]
    elif deed == 7:
        entries.append((pick(rng, entries)[0], content))
    elif deed == 8:
        entries[which] = pick(rng, (name + "x", "../" + name, "/tmp/x", "a/" * 90, name.upper(), "é", "x.npy")), content
    elif deed == 9:
        method = pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif deed == 10:
        return _sizes(rng, data)
    else:
        return BOMB.getvalue().replace(b"bomb", name[:4].encode().ljust(4, b"_"))
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # an entry twice
        for entry in entries:
            archive.writestr(*entry)
    return _sizes(rng, stream.getvalue()) if rng.integers(6) == 0 else stream.getvalue()


def _sizes(rng, data):
    """Numbers in the headers of entries, or in the table at the end, overwritten."""
    where = [i for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6") for i in _found(data, mark)]
    if not where:
        return wreck(rng, data)
    start = pick(rng, where) + int(rng.integers(4, 46))
    width = pick(rng, (2, 4))
    return data[:start] + (number(rng, len(data)) % 2**(8 * width)).to_bytes(width, "little") + data[start + width:]


STEPS = (b"R", b"b", b"(", b"0", b"1", b"2", b"t", b"]", b"}", b")", b"a", b"e", b"s", b"u", b"N", b"Q", b"\x81",
         b"\x93", b"\x94", b"\x85", b"\x87", b".", b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nFloatStorage\n",
         b"h\0",
         b"q\0", b"ccollections\nOrderedDict\n", b"X\4\0\0\0\xff\xff\xff\xff", b"I00\n", b"L" + b"9" * 5000 + b"L\n",
         b"\x8b\xff\xff\xff\x7f", b"ctorch._utils\n_rebuild_tensor_v2\n", b"F1e999\n", b"S'\\x'\n", b"V\\ud800\n",
         b"cnumpy\nndarray\n", b"\x82\1", b"io\ns\n", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 8 + b"\x7f")


def change_pickle(rng, data):
    """Steps of a pickle (of the first few that the bytes hold) put in, taken out, doubled, or with other numbers."""
    stream, steps = io.BytesIO(data), []
    try:
        for _ in range(int(rng.integers(1, 6))):
            steps = [(at, step.name) for step, _, at in pickletools.genops(stream)]
    except Exception:  # what follows is no pickle, or the data are damaged already
        pass
    if len(steps) < 3:
        return wreck(rng, data)
    which = int(rng.integers(len(steps) - 1))
    start, name = steps[which]
    stop, deed = steps[which + 1][0], int(rng.integers(6))
    if deed == 0:
        return data[:start] + data[stop:]
    if deed == 1:
        return data[:stop] + data[start:]
    if deed == 2 and which + 9 < len(steps):
        return data[:steps[which + 8][0]] + data[start:]
    if deed == 3 and "INT" in name and not name.endswith("PUT"):
        new = pick(rng, (b"K\0", b"K\2", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\6\0\0\0\0\0\1", b"N",
                         b"\x88", b"\x8a\x08" + b"\xff" * 7 + b"\x3f", b"G\x7f\xf0\0\0\0\0\0\0"))
        return data[:start] + new + data[stop:]
    return data[:start] + b"".join(pick(rng, STEPS) for _ in range(pick(rng, (1, 1, 2, 5)))) + data[start:]


def message(data):
    """The fields of a protocol buffer: number, wire type, value; None if it is none."""
    fields, position = [], 0
    while position < len(data):
        key, position = _varint(data, position)
        if key is None or not 0 < key >> 3 < 100:
            return None
        if key & 7 == 0:
            value, position = _varint(data, position)
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
            value, position = data[position:position + size], position + size
        elif key & 7 == 2:
            size, position = _varint(data, position)
            if size is None:
                return None
            value, position = data[position:position + size], position + size
        else:
            return None
        if value is None or position > len(data):
            return None
        fields.append([key >> 3, key & 7, value])
    return fields


def _varint(data, position):
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            break
        value |= (data[position] & 127) << shift
        position += 1
        if data[position - 1] < 128:
            return value, position
    return None, position


def written(fields):
    parts = []
    for field, kind, value in fields:
        parts.append(varint(field << 3 | kind))
        parts.append(varint(value) if kind == 0 else varint(len(value)) + value if kind == 2 else value)
    return b"".join(parts)


def change_protobuf(rng, data, depth=0):
    """One field, at any depth, changed, doubled, dropped or moved; the lengths around it are put right."""
    fields = message(data)
    if not fields:
        return wreck(rng, data) if data else pick(rng, (b"a", b"\x08\x01", b"\xff\xfe"))
    which = place(rng, fields)
    field = fields[which]
    if field[1] == 2 and depth < 7 and rng.integers(6) and message(field[2]):
        field[2] = change_protobuf(rng, field[2], depth + 1)
        return written(fields)
    deed = int(rng.integers(9))
    if deed == 0:
        del fields[which]
    elif deed == 1:
        fields.insert(place(rng, fields), list(field))
    elif deed == 2:
        field[0] = int(rng.integers(1, 26))
    elif deed == 3:
        other = pick(rng, fields)
        field[1:], other[1:] = other[1:], field[1:]
    elif deed == 4 and depth:
        return written(fields)[:-1]
    elif field[1] == 0:
        field[2] = pick(rng, (*LENGTHS, *range(20), -1 % 2**64, -3 % 2**64, field[2] + 1, field[2] * 2))
    elif field[1] == 2:
        field[2] = pick(rng, (b"", wreck(rng, field[2]), field[2] * 2, pick(rng, TEXTS).encode("utf-8", "replace"),
                              varint(number(rng, len(data))) * pick(rng, (1, 4)), pick(rng, fields)[2]))
        field[2] = field[2] if isinstance(field[2], bytes) else varint(field[2])
    else:
        field[2] = pick(rng, (b"\0", b"\xff", b"\x7f", b"\x80")) * len(field[2])
    return written(fields)


MARKS = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"\x89HDF")


def change_hdf5(rng, data):
    """Numbers and addresses near the marks of an HDF5 file, in its superblock and in its object headers."""
    where = [i for mark in MARKS for i in _found(data, mark)]
    if not where:
        return wreck(rng, data)
    addresses = [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data) - 8, 8)]
    known = [i for i, value in enumerate(addresses) if 0 < value < len(data) and value % 8 == 0]
    deed = int(rng.integers(5))
    if deed == 0 and known:
        start, width = 8 * pick(rng, known), 8
        value = pick(rng, (*(addresses[i] for i in known), *where, *LENGTHS))
    elif deed == 1:
        start, width, value = int(rng.integers(8, 100)), pick(rng, (1, 8)), number(rng, len(data))
    else:
        start, width = pick(rng, where) + int(rng.integers(4, 120)), pick(rng, (1, 2, 4, 8))
        value = pick(rng, (number(rng, len(data)), int(rng.integers(32)), pick(rng, where)))
    return data[:start] + (value % 2**(8 * width)).to_bytes(width, "little") + data[start + width:]


def _found(data, mark):
    where = data.find(mark)
    while where >= 0:
        yield where
        where = data.find(mark, where + 1)


def change_gzip(rng, data):
    """What a gzip file holds, packed again, or the packed bytes."""
    try:
        content = gzip.decompress(data)
    except Exception:  # damaged by an earlier mutation
        return wreck(rng, data)
    return gzip.compress(wreck(rng, content), 1, mtime=0)


def change_lines(rng, data):
    """Lines of a text doubled, dropped, exchanged, made empty, or put into another encoding."""
    lines = data.split(b"\n")
    which = place(rng, lines)
    deed = int(rng.integers(6))
    if deed == 0:
        lines.insert(place(rng, lines), lines[which])
    elif deed == 1:
        del lines[which]
    elif deed == 2:
        lines[which] = pick(rng, (b"", b" ", b"\r", b"\xff\xfe", b"\xe2\x82", "\u2028".encode(), b"x" * 5000, b"\0"))
    elif deed == 3:
        lines.reverse()
    elif deed == 4:
        return data.decode("latin-1").encode("utf-16")
    else:
        lines[which] = wreck(rng, lines[which])
    return b"\n".join(lines)


def choose(kinds):
    """The mutations for files of these kinds: those of the formats as often as those of bytes."""
    known = {"safetensors": (safetensors_header, safetensors_header, safetensors_offsets), "json": (change_json,),
             "zip": (change_zip,), "pickle": (change_pickle,), "protobuf": (change_protobuf,), "hdf5": (change_hdf5,),
             "gzip": (change_gzip,), "lines": (change_lines,)}
    special = [change for kind in kinds for change in known[kind]]
    return [*ANY, *special * max(1, 2 * len(ANY) // max(len(special), 1))] if special else list(ANY)


def mutate(rng, seeds, changes):
    """One of the files, changed once or a few times, or two of them in one."""
    data = pick(rng, seeds)
    if rng.integers(12) == 0:
        return splice(rng, data, pick(rng, seeds))
    for _ in range(pick(rng, (1, 1, 1, 2, 4))):
        data = pick(rng, changes)(rng, data)[:LARGEST]
    return data
