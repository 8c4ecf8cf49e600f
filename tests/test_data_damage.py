"""What the fuzzer found in readers of data: named cases, so that none of them comes back."""

import json
import tracemalloc

import pytest
from data_builders import cifar_python, some_images

from minidl import FileFormatError
from minidl.data import BPETokenizer, Vocabulary
from minidl.data.cifar import read_python
from minidl.models.bert_files import vocabularies_of


def test_a_vocabulary_of_bert_that_is_no_text_is_a_file_format_error(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(FileFormatError, match="byte 6 is not UTF-8"):
        vocabularies_of(tmp_path)


def test_a_panic_of_the_tokenizers_library_is_a_file_format_error(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": "null"}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(FileFormatError, match="the tokenizers library refuses them"):
        BPETokenizer.load(tmp_path)


@pytest.mark.parametrize("read, content", [
    (lambda path: read_python(path, 4), cifar_python(*some_images(3, 3, 32))), (Vocabulary.load, b"[]")])
def test_a_small_file_takes_little_memory(tmp_path, read, content):
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            read(tmp_path / "file")
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
