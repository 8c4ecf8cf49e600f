"""Promises 3, 4 and 5 of the transfer module: loading is strict and safe, a file holds everything."""

import copy
import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from transfer_networks import X, bits, network, snapshot, trained

import minidl
from minidl import nn
from minidl.tensor import Tensor
from minidl.transfer import (
    LoadError,
    UntrainedWarning,
    build,
    freeze,
    load,
    load_metadata,
    load_structure,
    load_tensors,
    register,
    save,
    save_tensors,
    structure,
    untrained,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_promise_5_a_file_holds_all_that_was_trained_and_everything_known_about_it(path):
    model = trained()
    before = snapshot(model)
    save(model, path, preprocessing={"range": [0, 1], "mean": [0.5], "std": [0.25]}, classes=["a", "b", "ç"],
         licence="MIT", provenance="digits of 1998")
    assert snapshot(model) == before
    twin = load(path)
    assert bits(twin) == bits(model) and repr(twin) == repr(model) and twin.training
    np.testing.assert_array_equal(twin.eval()(X).numpy(), model.eval()(X).numpy())
    assert twin.preprocessing == {"range": [0, 1], "mean": [0.5], "std": [0.25]}
    assert (twin.classes, twin.licence) == (["a", "b", "ç"], "MIT")
    assert twin.provenance.keys() == {"trained_on", "minidl", "saved"}
    assert twin.provenance["trained_on"] == "digits of 1998" and twin.provenance["minidl"] == minidl.__version__
    images = twin.preprocess(np.full((2, 1, 3, 3), 255, np.uint8))
    np.testing.assert_array_equal(images.numpy(), np.full((2, 1, 3, 3), 2.0, np.float32))


def test_promise_5_the_safetensors_library_and_pytorch_users_read_the_file(path):
    model = trained()
    save(model, path, classes=["a", "b", "c"])
    for name, array in safetensors.numpy.load_file(path).items():
        assert array.tobytes() == bits(model)[name]
    with safetensors.safe_open(path, "numpy") as file:
        assert set(file.keys()) == set(model.state_dict())
        metadata = file.metadata()
    assert metadata["format"] == "pt" and metadata["minidl.classes"] == '["a", "b", "c"]'
    assert json.loads(metadata["minidl.architecture"]) == structure(model) == load_structure(path)


def test_promise_5_what_the_model_came_with_is_saved_again(path):
    save(trained(), path, preprocessing={"mean": [0.1]}, classes=["a", "b", "c"], licence="MIT", provenance="first")
    model = load(path)
    save(model, path, provenance={"trained_on": "second", "labels": 1000})
    again = load(path)
    assert (again.preprocessing, again.classes, again.licence) == ({"mean": [0.1]}, ["a", "b", "c"], "MIT")
    assert again.provenance["trained_on"] == "second" and again.provenance["labels"] == 1000
    assert again.provenance["based_on"]["trained_on"] == "first"
    save(again, path)
    assert load(path).provenance["based_on"]["trained_on"] == "first"


def test_promise_5_non_persistent_buffers_stay_out_and_integer_buffers_come_back(path):
    @register
    class Counter(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones(2, np.float32))
            self.register_buffer("count", Tensor(np.array(3)))
            self.register_buffer("cache", Tensor(np.zeros(4)), persistent=False)

    model = Counter()
    model.count.array[...] = 5
    save(model, path)
    assert load_tensors(path).keys() == {"weight", "count"}
    assert load(path).count.item() == 5


@register
class Tied(nn.Module):
    def __init__(self, words=7, width=4):
        self.words, self.width = words, width
        self.embedding = nn.Embedding(words, width)
        self.decoder = nn.Linear(width, words, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, x):
        return self.decoder(self.embedding(x))


def test_promise_5_ties_are_kept_and_stored_once(path):
    model = nn.Sequential({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model.b.weight = model.a.weight
    save(model, path)
    assert load_tensors(path).keys() == {"a.weight", "a.bias", "b.bias"}
    twin = load(path)
    assert twin.b.weight is twin.a.weight and bits(twin) == bits(model)
    save(Tied(), path)
    assert load_tensors(path).keys() == {"embedding.weight"}
    twin = load(path)
    assert twin.decoder.weight is twin.embedding.weight


def test_promise_5_a_tie_fills_both_tensors_of_a_model_that_is_not_tied(path):
    model = nn.Sequential({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model.b.weight = model.a.weight
    save(model, path)
    twin = load(path, nn.Sequential({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}))
    assert twin.a.weight is not twin.b.weight and bits(twin) == bits(model)


def test_a_tied_model_takes_files_with_one_or_both_names_but_not_with_two_values(path):
    weight = np.arange(28, dtype=np.float32).reshape(7, 4)
    for names in (["embedding.weight"], ["decoder.weight"], ["embedding.weight", "decoder.weight"]):
        save_tensors({name: weight for name in names}, path)
        np.testing.assert_array_equal(load(path, Tied()).embedding.weight.numpy(), weight)
    save_tensors({"embedding.weight": weight, "decoder.weight": weight + 1}, path)
    model = Tied()
    before = snapshot(model)
    with pytest.raises(LoadError, match="are one tensor in the model, but differ in the file"):
        load(path, model)
    assert snapshot(model) == before


def test_a_shared_module_is_stored_once_and_comes_back_shared(path):
    block = nn.Linear(4, 4)
    save(nn.Sequential(block, nn.Tanh(), block), path)
    assert load_tensors(path).keys() == {"0.weight", "0.bias"}
    twin = load(path)
    assert twin[0] is twin[2]


class Custom(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x)


def test_a_model_of_custom_code_is_saved_and_loads_into_its_class(path):
    model = Custom()
    save(model, path, classes=["a", "b", "c"])
    assert json.loads(load_metadata(path)["minidl.architecture"])["custom"] == "Custom"
    with pytest.raises(LoadError, match="of a class of its own, 'Custom'.*model="):
        load(path)
    with pytest.raises(LoadError, match="of a class of its own"):
        load_structure(path)
    twin = load(path, Custom())
    assert bits(twin) == bits(model) and twin.classes == ["a", "b", "c"]


def test_a_foreign_file_needs_a_model_and_leaves_none_where_it_says_nothing(path):
    save_tensors(trained().state_dict(), path)
    with pytest.raises(LoadError, match="holds tensors but no architecture; pass the model"):
        load(path)
    model = load(path, network())
    assert bits(model) == bits(trained())
    assert (model.preprocessing, model.classes, model.licence, model.provenance) == (None,) * 4
    assert not hasattr(model, "preprocess")


def test_attributes_of_ones_own_are_not_overwritten(path):
    model = network()
    model.classes = 3
    save(model, path)
    assert "minidl.classes" not in load_metadata(path)
    save(model, path, classes=["a", "b", "c"])
    assert load(path, model).classes == 3


MISMATCHES = {
    "missing": (lambda t: t.pop("head.bias"), {}, ["missing 'head.bias' (3,): the file has no such tensor"]),
    "unexpected": (lambda t: t.update({"head.scale": np.ones(3)}), {}, ["unexpected 'head.scale' (3,): the model"]),
    "misspelt": (lambda t: t.update({"head.biass": t.pop("head.bias")}), {},
                 ["missing 'head.bias'", "did you mean 'head.biass'", "did you mean 'head.bias'?"]),
    "shape": (lambda t: t.update({"head.weight": np.ones((5, 8), np.float32)}), {},
              ["shape of 'head.weight': (5, 8) in the file, (3, 8) in the model"]),
    "shape that would broadcast": (lambda t: t.update({"head.bias": np.ones(1, np.float32)}), {},
                                   ["shape of 'head.bias': (1,) in the file, (3,) in the model"]),
    "transposed": (lambda t: t.update({"head.weight": np.ones((8, 3), np.float32)}), {}, ["(8, 3) in the file"]),
    "dtype": (lambda t: t.update({"head.bias": np.ones(3)}), {},
              ["dtype of 'head.bias': float64 in the file, float32 in the model", "model.to('float64')"]),
    "integers": (lambda t: t.update({"head.bias": np.ones(3, np.int32)}), {}, ["int32 in the file, float32"]),
    "a declared pattern of nothing": (lambda t: None, {"allow": {"haed.*": "reinit"}},
                                      ["allow: the pattern 'haed.*' matches nothing; did you mean 'head."]),
    "everything excluded": (lambda t: None, {"allow": {"*": "skip"}}, ["nothing would be loaded into Sequential"]),
    "a rename of nothing": (lambda t: None, {"rename": {"hed": "head"}}, ["rename={'hed': …} fits no name", "'head'"]),
    "a rename onto another": (lambda t: None, {"rename": {"head.bias": "head.weight"}}, ["would both become 'head."]),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_promise_3_what_does_not_fit_raises_and_leaves_the_model_alone(path, name):
    change, options, messages = MISMATCHES[name]
    tensors = {key: value.numpy() for key, value in trained().state_dict().items()}
    change(tensors)
    save_tensors(tensors, path)
    model = freeze(network(), "body")
    model.classes = ["x"]
    before = snapshot(model)
    with pytest.raises(LoadError) as caught:
        load(path, model, **options)
    assert all(message in str(caught.value) for message in messages), caught.value
    assert str(path) in str(caught.value)
    assert snapshot(model) == before


def test_promise_3_all_problems_are_listed_at_once_and_the_first_that_differ_are_shown(path):
    save(trained(classes=10, hidden=9), path)
    with pytest.raises(LoadError) as caught:
        load(path, network())
    assert len(caught.value.problems) == 8
    first = str(caught.value).splitlines()
    assert first[0].endswith("does not fit Sequential (8 problems):")
    assert first[1].strip() == "shape of 'body.0.weight': (9, 6) in the file, (8, 6) in the model"
    assert all(problem in str(caught.value) for problem in caught.value.problems)


def test_promise_3_a_file_of_a_wholly_different_model_raises_and_suggests_a_prefix(path):
    save_tensors({f"module.{name}": value for name, value in trained().state_dict().items()}, path)
    with pytest.raises(LoadError, match=r'perhaps rename=\{"module.": ""\} is meant'):
        load(path, network())
    assert bits(load(path, network(), rename={"module.": ""})) == bits(trained())
    assert bits(load(path, network(), rename={"module": ""})) == bits(trained())


def test_promise_3_declared_reinit_stays_fresh_and_is_marked(path):
    save(trained(classes=10), path, classes=list("abcdefghij"))
    model = network(classes=4)
    fresh = bits(model)
    assert load(path, model, allow={"head.*": "reinit"}) is model
    after = bits(model)
    assert {name for name in after if after[name] == fresh[name]} == {"head.weight", "head.bias"}
    assert untrained(model) == ["head.weight", "head.bias"]
    assert model.classes is None
    model.eval()
    with minidl.no_grad(), pytest.warns(UntrainedWarning):
        model(X)


def test_promise_3_reinit_holds_even_where_the_file_would_fit(path):
    save(trained(), path)
    model = load(path, allow={"head.*": "reinit"})
    assert untrained(model) == ["head.weight", "head.bias"]
    assert bits(model)["head.weight"] != bits(trained())["head.weight"]
    assert bits(model)["body.0.weight"] == bits(trained())["body.0.weight"]


def test_promise_3_skip_leaves_tensors_alone_without_a_mark(path):
    tensors = dict(trained().state_dict())
    save_tensors({**tensors, "optimizer.step": np.zeros(1)}, path)
    model = network()
    own = bits(model)["head.weight"]
    load(path, model, allow={"optimizer.*": "skip", "head.weight": "skip"})
    assert bits(model)["head.weight"] == own and untrained(model) == []
    assert bits(model)["head.bias"] == bits(trained())["head.bias"]


def test_promise_3_a_loaded_tensor_is_no_longer_marked(path):
    save(trained(), path)
    model = load(path, allow={"head.*": "reinit"})
    assert untrained(load(path, model)) == []


def test_promise_3_wrong_declarations_are_refused(path):
    save(trained(), path)
    with pytest.raises(ValueError, match="'reinit' and 'skip' are possible"):
        load(path, allow={"head.*": "ignore"})
    with pytest.raises(TypeError, match="allow must map patterns"):
        load(path, allow=["head.*"])


def test_promise_3_rename_takes_the_longest_front_that_fits(path):
    tensors = trained().state_dict()
    renamed = {name.replace("body.0", "encoder.first").replace("body", "encoder"): tensors[name] for name in tensors}
    save_tensors(renamed, path)
    model = load(path, network(), rename={"encoder": "body", "encoder.first": "body.0"})
    assert bits(model) == bits(trained())


def test_promise_3_dtypes_are_never_cast(path):
    save(trained().double(), path)
    with pytest.raises(LoadError, match="float64 in the file, float32 in the model"):
        load(path, network())
    assert load(path).head.weight.dtype == np.float64
    assert load(path, network().double()).head.weight.dtype == np.float64


def test_structure_with_the_weights_of_the_first_layers(path):
    save(trained(), path)
    model = load(path, build(load_structure(path)), allow={"body.1.*": "reinit", "head.*": "reinit"})
    assert bits(model)["body.0.weight"] == bits(trained())["body.0.weight"]
    assert bits(model)["body.1.running_mean"] == bits(network())["body.1.running_mean"]
    assert untrained(model) == ["body.1.weight", "body.1.bias", "head.weight", "head.bias"]


def test_an_interrupted_load_leaves_the_model_as_it_was(path):
    save(trained(), path)
    model = network()
    before = snapshot(model)
    copied = []

    class Interrupting(np.ndarray):
        def __setitem__(self, index, value):
            copied.append(1)
            np.ndarray.__setitem__(self, index, value)
            if len(copied) == 4:
                raise KeyboardInterrupt

    for value in (*model.parameters(), *model.buffers()):
        value.array = value.array.view(Interrupting)
    with pytest.raises(KeyboardInterrupt):
        load(path, model)
    assert len(copied) > 4 and snapshot(model)[0] == before[0]


@pytest.mark.parametrize("options, kind, message", [
    ({"classes": "abc"}, TypeError, "classes must be a list of names"),
    ({"classes": [1, 2]}, TypeError, "classes must be a list of names"),
    ({"licence": 5}, TypeError, "licence must be a text"),
    ({"preprocessing": {"mean": np.ones(3)}}, TypeError, "preprocessing must consist of JSON values"),
    ({"preprocessing": {"mean": [float("nan")]}}, TypeError, "preprocessing must consist of JSON values"),
    ({"provenance": {"data": object()}}, TypeError, "provenance must consist of JSON values"),
    ({"provenance": "x" * 5_000_000}, ValueError, "provenance is a text of"),
])
def test_what_cannot_be_saved_raises_and_keeps_the_old_file(path, options, kind, message):
    save(trained(), path)
    old = path.read_bytes()
    with pytest.raises(kind, match=message):
        save(network(), path, **options)
    assert path.read_bytes() == old and len(list(path.parent.iterdir())) == 1


def test_odd_requests_are_explained(tmp_path):
    with pytest.raises(ValueError, match="must end in .safetensors, for instance .*model.pt.safetensors"):
        save(network(), tmp_path / "model.pt")
    with pytest.raises(TypeError, match="not a dict.*save_tensors"):
        save(network().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="has no parameters and no buffers"):
        save(nn.ReLU(), tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="cannot write .*missing"):
        save(network(), tmp_path / "missing" / "model.safetensors")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.safetensors")


def test_a_copy_of_a_loaded_model_carries_everything(path):
    save(trained(), path, preprocessing={"mean": [0.1]}, classes=["a", "b", "c"])
    twin = copy.deepcopy(load(path))
    assert twin.classes == ["a", "b", "c"] and twin.preprocess(np.zeros((1, 2, 2), np.float32)).shape == (1, 2, 2)
