"""Files that PyTorch wrote are read without PyTorch, and into models by the rules of every load."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_parts import legacy, mapping, number, storage, tensor, text, view, zipped

import minidl
from minidl import FileFormatError, nn
from minidl.transfer import LoadError, load, load_tensors, save_tensors

FILES = Path(__file__).with_name("golden") / "torch_files"
SAMPLES = ("sample.pt", "sample_legacy.pth", "sample_protocol_5.pt", "sample_protocol_4_legacy.pth")


def expected(name):
    return dict(np.load(FILES / f"{name}.npz"))


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("name", SAMPLES)
def test_every_type_and_every_way_a_tensor_can_lie_in_its_storage(name):
    found = load_tensors(FILES / name)
    later = ("uint16", "uint32", "uint64") if "legacy" in name else ()  # that format cannot hold them
    assert_equal(found, {key: value for key, value in expected("sample").items() if key not in later})
    assert found["tied"] is found["whole"]
    for value in found.values():
        assert value.flags.c_contiguous and value.flags.writeable and value.flags.aligned
    apart = [value for key, value in found.items() if key != "tied"]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(apart) for b in apart[:i])


@pytest.mark.parametrize("name", ["checkpoint.pth", "checkpoint_legacy.pth"])
def test_the_models_part_of_a_checkpoint_is_taken_unless_another_is_asked_for(name):
    state = expected("checkpoint")
    assert_equal(load_tensors(FILES / name), {f"module.{key}": value for key, value in state.items()})
    assert_equal(load_tensors(FILES / name, part="state_dict.module"), state)
    assert_equal(load_tensors(FILES / name, part="ema.model"), state)
    assert set(load_tensors(FILES / name, "optimizer")) == {
        f"state.{index}.{key}" for index in range(6) for key in ("step", "exp_avg", "exp_avg_sq")}
    with pytest.raises(KeyError, match="no tensor's name begins with 'ema.modle.'; did you mean 'ema.model'"):
        load_tensors(FILES / name, "ema.modle")


@pytest.mark.parametrize("name", ["checkpoint.pth", "checkpoint_legacy.pth", "checkpoint.npz"])
def test_weights_are_loaded_by_the_rules_of_every_load(name):
    model, state = network(), expected("checkpoint")
    before = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    if name.endswith(".pth"):
        with pytest.raises(LoadError, match=r'(?s)missing.*\n  perhaps rename=\{"module.": ""\} is meant') as caught:
            load(FILES / name, model)
        assert "did you mean 'module.0.weight'" in str(caught.value)
        assert_equal({key: value.numpy() for key, value in model.state_dict().items()}, before)
    load(FILES / name, model, rename={"module": ""} if name.endswith(".pth") else None)
    assert_equal({key: value.numpy() for key, value in model.state_dict().items()}, state)
    with pytest.raises(LoadError, match="no architecture; pass the model to fill"):
        load(FILES / name)
    small = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 5))
    prefix = {"module": ""} if name.endswith(".pth") else None
    with pytest.raises(LoadError, match=r"shape of '3.weight': \(3, 2\) in the file, \(5, 2\) in the model"):
        load(FILES / name, small, rename=prefix)
    load(FILES / name, small, rename=prefix, allow={"3.*": "reinit"})
    assert minidl.transfer.untrained(small) == ["3.weight", "3.bias"]


def test_the_hint_for_a_file_from_before_batches_were_counted(tmp_path):
    state = {key: value for key, value in expected("checkpoint").items() if "tracked" not in key}
    save_tensors(state, tmp_path / "old.npz")
    with pytest.raises(LoadError, match=r'allow=\{"\*num_batches_tracked": "skip"\}'):
        load(tmp_path / "old.npz", network())
    load(tmp_path / "old.npz", network(), allow={"*num_batches_tracked": "skip"})


def test_names_that_differ_are_paired_by_order_if_asked_and_the_error_says_so(tmp_path):
    state = expected("checkpoint")
    other = {f"_layer_{name.replace('.', '__')}": value for name, value in state.items()}
    save_tensors(other, tmp_path / "other.npz")
    model = network()
    with pytest.raises(LoadError, match="rename=transfer.rename_by_order"):
        load(tmp_path / "other.npz", model)
    for left_out in ((), ("_layer_1__num_batches_tracked",)):
        tensors = {name: value for name, value in other.items() if name not in left_out}
        rename = minidl.transfer.rename_by_order(tensors, model)
        assert rename == {f"_layer_{name.replace('.', '__')}": name for name in state
                          if not (left_out and "tracked" in name)}
    load(tmp_path / "other.npz", model, rename=minidl.transfer.rename_by_order(other, model))
    assert_equal({key: value.numpy() for key, value in model.state_dict().items()}, state)
    with pytest.raises(ValueError, match=r"'b' \(3,\) in the file meets '0.weight' \(2, 1, 3, 3\) in the model"):
        minidl.transfer.rename_by_order({"b": state["3.bias"], "c": state["0.bias"]}, nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(ValueError, match="the model has 6 more tensors, from '1.weight' on; write rename= by hand"):
        minidl.transfer.rename_by_order(dict(list(other.items())[:2]), model)


@pytest.mark.parametrize("body, names", [
    (mapping(model=mapping(a=tensor()), rng=tensor(), optimizer=mapping(b=tensor())), {"a"}),
    (mapping(state_dict=mapping(model=mapping(a=tensor()))), {"a"}),
    (b"}(" + text("model.a") + tensor() + text("b") + tensor() + b"u", {"model.a", "b"}),
    (mapping(model=mapping(a=tensor()), state_dict=mapping(b=tensor())), {"model.a", "state_dict.b"}),
    (mapping(encoder=mapping(a=tensor()), decoder=mapping(a=tensor())), {"encoder.a", "decoder.a"}),
    (mapping(model=mapping(a=number(1)), ema=mapping(b=tensor())), {"ema.b"}),
])
def test_which_part_of_a_checkpoint_is_the_model(tmp_path, body, names):
    (tmp_path / "file.pt").write_bytes(zipped(body))
    assert load_tensors(tmp_path / "file.pt").keys() == names


def test_lists_and_bare_tensors_have_names():
    found = load_tensors(FILES / "list.pt")
    assert {key: value.tolist() for key, value in found.items()} == {"0": [1.0], "1.0": 2, "1.1.x": [3]}
    assert load_tensors(FILES / "bare.pt")["tensor"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name, message", [
    ("module.pt", "it refers to 'torch.nn.modules.container Sequential'; only tensors are read.*state_dict"),
    ("sparse.pt", "it holds '_rebuild_sparse_tensor', which is not a dense tensor"),
    ("numpy_scalar.pt", "it refers to 'numpy._core.multiarray scalar'"),
    ("script.pt", "a TorchScript program"),
])
def test_what_is_no_tensor_is_refused_with_the_cure(name, message):
    with pytest.raises(FileFormatError, match=message):
        load_tensors(FILES / name)


def test_the_kind_is_seen_from_the_content_where_the_ending_says_nothing(tmp_path):
    wanted = expected("checkpoint")
    save_tensors(wanted, tmp_path / "a.safetensors")
    save_tensors(wanted, tmp_path / "b.npz")
    for place in (tmp_path / "a.safetensors", tmp_path / "b.npz"):
        (tmp_path / "plain").write_bytes(place.read_bytes())
        assert_equal(minidl.load_tensors(tmp_path / "plain"), wanted)
    for name in SAMPLES:
        (tmp_path / "plain").write_bytes((FILES / name).read_bytes())
        assert_equal(minidl.load_tensors(tmp_path / "plain"), load_tensors(FILES / name))
    (tmp_path / "wrong.pth").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(FileFormatError, match="a safetensors file by its content; give it the ending .safetensors"):
        load_tensors(tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match="PyTorch's pickles are not written; end the file's name in .safetensors"):
        save_tensors(wanted, tmp_path / "c.pt")
    assert_equal(load_tensors(tmp_path / "a.safetensors", part="0"),
                 {"weight": wanted["0.weight"], "bias": wanted["0.bias"]})


def test_an_npz_keeps_names_types_and_shapes_and_is_the_same_each_time(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a.weight": rng.standard_normal((2, 3)), "file": np.float32(1.5), "none": np.zeros((0, 3), np.int8),
              "mask": np.array([True, False]), "half": np.ones(3, np.float16), "complex": np.array([1 + 2j]),
              "turned": rng.random((3, 4)).T}
    save_tensors(arrays, tmp_path / "a.npz")
    save_tensors(arrays, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert_equal(load_tensors(tmp_path / "a.npz"), {key: np.ascontiguousarray(value).reshape(np.shape(value))
                                                    for key, value in arrays.items()})
    assert dict(np.load(tmp_path / "a.npz")).keys() == arrays.keys()
    np.savez_compressed(tmp_path / "c.npz", fortran=np.asfortranarray(arrays["turned"]), big=np.arange(3, dtype=">i4"),
                        complex=np.ones(2, np.complex64), zeros=np.zeros((1000, 1000)))
    found = load_tensors(tmp_path / "c.npz")
    np.testing.assert_array_equal(found["fortran"], arrays["turned"])
    assert found["big"].dtype == np.dtype("int32") and found["big"].tolist() == [0, 1, 2]
    assert found["zeros"].nbytes == 8_000_000 and found["fortran"].flags.c_contiguous
    with pytest.raises(TypeError, match="'a' is object, which the format cannot hold"):
        save_tensors({"a": np.array([{}])}, tmp_path / "d.npz")
    with pytest.raises(ValueError, match="an .npz file holds no metadata"):
        save_tensors(arrays, tmp_path / "d.npz", {"note": "x"})


def test_a_limit_allows_more_than_the_file_seems_to_hold(tmp_path):
    np.savez_compressed(tmp_path / "zeros.npz", zeros=np.zeros(3 * 2**20))
    with pytest.raises(FileFormatError, match="take 25,165,952 bytes.*if that is right, pass limit=25165952"):
        load_tensors(tmp_path / "zeros.npz")
    assert load_tensors(tmp_path / "zeros.npz", limit=2**25)["zeros"].size == 3 * 2**20
    (tmp_path / "wide.pt").write_bytes(zipped(mapping(a=tensor((5 * 2**20,), (0,)))))
    with pytest.raises(FileFormatError, match="take 20,971,520 bytes, the file has"):
        load_tensors(tmp_path / "wide.pt")
    assert load_tensors(tmp_path / "wide.pt", limit=2**25)["a"].size == 5 * 2**20


def test_the_parts_that_the_hostile_tests_use_make_sound_files(tmp_path):
    values = np.arange(4, dtype=np.float32)
    for make in (zipped, legacy):
        (tmp_path / "file.pt").write_bytes(make(mapping(a=tensor(), b=tensor((2, 2), (1, 2)), c=tensor((0, 9), (9, 1)),
                                                        d=tensor((2,), (2,), 1, storage()),
                                                        e=tensor((2,), (1,), of=view(1, 2))), {"0": values.tobytes()}))
        found = load_tensors(tmp_path / "file.pt")
        assert {key: value.tolist() for key, value in found.items()} == {
            "a": [0, 1, 2, 3], "b": [[0, 2], [1, 3]], "c": [], "d": [1, 3], "e": [1, 2]}


@settings(max_examples=150, deadline=None)
@given(length=st.integers(0, 30), offset=st.integers(0, 8), make=st.sampled_from([zipped, legacy]),
       axes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=3))
def test_a_view_is_what_numpy_makes_of_it_or_is_refused_where_it_leaves_its_storage(length, offset, make, axes):
    shape, stride = tuple(size for size, _ in axes), tuple(step for _, step in axes)
    values = np.arange(length, dtype=np.float32)
    body = mapping(a=tensor(shape, stride, offset, storage(length)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.pt"
        path.write_bytes(make(body, {"0": values.tobytes()}))
        last = offset + sum((size - 1) * step for size, step in axes)
        if 0 not in shape and last >= length:
            with pytest.raises(FileFormatError, match=f"ends at element {last} of a storage of {length}"):
                load_tensors(path)
            return
        found = load_tensors(path)["a"]
    steps = [4 * step for step in stride]
    expected = np.lib.stride_tricks.as_strided(values[offset:], shape, steps) if 0 not in shape else np.zeros(shape)
    np.testing.assert_array_equal(found, expected)
