"""Import by probe: a file proves itself when it is loaded, and a model that computes something else is refused."""

import base64
import copy
import json
import warnings

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_networks import X, bits, network, snapshot, trained

import minidl
from minidl import nn, random, transfer
from minidl.errors import FileFormatError
from minidl.models import BertModel, RecurrentClassifier, create_model
from minidl.tensor import Tensor
from minidl.transfer import LoadError, ledger, load, load_metadata, load_tensors, register, save, save_tensors
from minidl.transfer.probe_text import Input, sample

PROBE = "minidl.probe"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def convolutional(eps=1e-5, padding=1, classes=5):
    return nn.Sequential({
        "conv": nn.Conv2d(3, 4, 3, padding=padding), "bn": nn.BatchNorm2d(4, eps=eps), "relu": nn.ReLU(),
        "drop": nn.Dropout(0.5), "conv2": nn.Conv2d(4, 6, 3, padding=1), "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(), "fc": nn.Linear(6, classes),
    })


def rewritten(path, change, tensors=None):
    """The file again with `change` made to its probe."""
    metadata = load_metadata(path)
    probe = json.loads(metadata[PROBE])
    change(probe)
    save_tensors(load_tensors(path) if tensors is None else tensors, path, {**metadata, PROBE: json.dumps(probe)})


def test_a_file_with_a_probe_loads_and_says_what_was_proven(path):
    model = convolutional()
    save(model, path, probe=(3, 8, 8))
    twin = load(path)
    assert bits(twin) == bits(model)
    assert ledger(twin).events[0].detail.endswith("; probe: 9 of 9 outputs reproduced, within 0")
    assert bits(load(path, convolutional())) == bits(model)
    with minidl.use_backend("reference"):
        load(path)


def test_other_readers_see_the_tensors_and_nothing_else(path):
    model = convolutional()
    save(model, path, probe=(3, 8, 8))
    assert safetensors.numpy.load_file(path).keys() == model.state_dict().keys() == load_tensors(path).keys()
    assert len(load_metadata(path)[PROBE]) < 20_000


def test_saving_and_loading_with_a_probe_changes_nothing_about_the_model(path):
    model = transfer.rehead(trained(), 3)
    seen = []
    model.register_forward_hook(lambda *call: seen.append(call))
    state = random.generator().bit_generator.state
    before = snapshot(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(model, path, probe=X)
        assert snapshot(model) == before and random.generator().bit_generator.state == state
        given = transfer.rehead(network(), 3)
        given.body.eval()
        modes = [module.training for module in given.modules()]
        given.register_forward_hook(lambda *call: seen.append(call))
        load(path, given)
    assert seen == [] and [module.training for module in given.modules()] == modes


@pytest.mark.parametrize("flip", [0, 1, 2, 3])
def test_one_flipped_bit_of_a_tensor_is_found(path, flip):
    save(convolutional(), path, probe=(3, 8, 8))
    tensors = load_tensors(path)
    tensors["conv2.weight"].reshape(-1).view(np.uint8)[flip] ^= 1
    save_tensors(tensors, path, load_metadata(path))
    with pytest.raises(FileFormatError, match="the tensor 'conv2.weight' is not the one that was saved"):
        load(path)
    assert load(path, probe=False).conv2.weight.array.tobytes() == tensors["conv2.weight"].tobytes()


def test_weights_that_compute_something_else_are_found_by_what_they_compute(path):
    save(convolutional(), path, probe=(3, 8, 8))
    tensors = load_tensors(path)
    tensors["conv2.weight"].reshape(-1)[0] *= 2
    rewritten(path, lambda probe: probe["sha256"].clear(), tensors)
    with pytest.raises(LoadError, match=r"the output of 'conv2' differs by .* 0\.0001 are allowed; the outputs before "
                                        "it, up to 'drop', agree"):
        load(path)


@pytest.mark.parametrize("other, layer", [
    (lambda: convolutional(eps=1e-2), "bn"), (lambda: convolutional(padding=0), "conv"),
])
def test_a_model_that_computes_something_else_is_refused_and_unchanged(path, other, layer):
    model = convolutional()
    model.bn.running_var.array[...] = 0.1
    save(model, path, probe=(3, 8, 8))
    given = other()
    before = snapshot(given)
    with pytest.raises(LoadError, match=f"the output of '{layer}' differs"):
        load(path, given)
    assert snapshot(given) == before
    load(path, given, probe=False)
    assert bits(given) == bits(model)


def test_what_cannot_run_the_probe_is_refused_and_unchanged(path):
    save(nn.Sequential({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}), path, probe=(4,))

    class Broken(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) @ self.b(x)

    model = Broken()
    before = snapshot(model)
    with pytest.raises(LoadError, match="the model cannot run on the file's probe: .*probe=False"):
        load(path, model)
    assert snapshot(model) == before


def test_layers_before_what_allow_leaves_out_are_still_proven(path):
    save(convolutional(), path, probe=(3, 8, 8))
    model = load(path, convolutional(classes=7), allow={"fc.*": "reinit"})
    assert "probe: 7 of 9 outputs reproduced, up to 'flat'" in ledger(model).events[0].detail
    model = load(path, allow={"conv2.weight": "reinit"})
    assert "probe: 4 of 9 outputs reproduced, up to 'drop'" in ledger(model).events[0].detail
    with pytest.raises(LoadError, match="the output of 'bn' differs"):
        load(path, convolutional(eps=1.0, classes=7), allow={"fc.*": "reinit"})
    assert "no output could be compared" in \
        ledger(load(path, convolutional(), allow={"conv.*": "skip"})).events[0].detail


def test_counters_of_batches_do_not_end_the_proof(path):
    save(convolutional(), path, probe=(3, 8, 8))
    model = load(path, allow={"bn.num_batches_tracked": "skip"})
    assert "9 of 9 outputs" in ledger(model).events[0].detail


def test_models_of_indices_and_of_several_inputs_have_probes(path):
    model = RecurrentClassifier(30, 3, embedding_dim=5, hidden_size=4)
    ids, lengths = np.arange(14).reshape(2, 7), np.array([7, 3])
    save(model, path, probe=(ids, lengths))
    assert "outputs reproduced" in ledger(load(path)).events[0].detail
    small = BertModel(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                      max_position_embeddings=12)
    save(small, path, probe=(np.arange(10).reshape(2, 5), np.ones((2, 5), np.int64)))
    assert "25 of 25 outputs reproduced" in ledger(load(path)).events[0].detail
    chain = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 3, batch_first=True))
    for probe in (True, (6,), ids % 9):
        save(chain, path, probe=probe)
        assert "3 of 3 outputs reproduced" in ledger(load(path)).events[0].detail


@pytest.mark.parametrize("make", [
    lambda: create_model("lenet5"), lambda: create_model("resnet20"), convolutional, network,
    lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3)),
    lambda: nn.Sequential(nn.GRU(3, 4)), lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)),
    lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()), lambda: network().double(),
])
def test_true_finds_an_input_by_trying(path, make):
    model = make()
    save(model, path, probe=True)
    twin = load(path)
    assert bits(twin) == bits(model) and "reproduced" in ledger(twin).events[0].detail


def test_half_precision_has_a_tolerance_of_its_own(path):
    model = network().to(np.float16)
    save(model, path, probe=True)
    tensors = load_tensors(path)
    for factor, good in ((1.01, True), (1.2, False)):
        changed = {**tensors, "body.0.weight": (tensors["body.0.weight"] * factor).astype(np.float16)}
        rewritten(path, lambda probe: probe["sha256"].clear(), changed)
        if good:
            load(path)
        else:
            with pytest.raises(LoadError, match=r"'body.0' differs by 0\.\d+ of its largest value, 0.02 are allowed"):
                load(path)


def test_nan_is_found_where_no_element_is_kept_too():
    good = np.ones(1000, np.float32)
    bad = good.copy()
    bad[1] = np.nan
    kept = sample("layer", Tensor(good))
    assert len(kept.values) == 64 and not np.isnan(sample("layer", Tensor(bad)).values).any()
    assert kept.difference(sample("layer", Tensor(bad))) == np.inf


def test_a_made_input_is_the_same_everywhere():
    made = Input.made((2, 3), np.dtype(np.float32)).array()
    np.testing.assert_allclose(made.reshape(-1), [2 * ((i * 2654435761) % 2**32) / 2**32 - 1 for i in range(1, 7)],
                               rtol=1e-6)
    ids = Input.made((1000,), np.dtype(np.int64), 7).array()
    assert set(ids.tolist()) == set(range(7)) and ids.dtype == np.int64


def test_a_model_from_a_file_with_a_probe_is_saved_with_one_again(path, tmp_path):
    save(convolutional(), path, probe=np.ones((1, 3, 8, 8), np.float32))
    model = transfer.rehead(load(path), 2)
    other = tmp_path / "other.safetensors"
    save(model, other)
    assert json.loads(load_metadata(other)[PROBE])["inputs"] == json.loads(load_metadata(path)[PROBE])["inputs"]
    load(other)
    save(copy.deepcopy(model), other, probe=False)
    assert PROBE not in load_metadata(other)
    model.conv = nn.Conv2d(4, 4, 3)
    with pytest.warns(UserWarning, match="written without a probe"):
        save(model, other)
    assert PROBE not in load_metadata(other)
    save(network(), other)
    assert PROBE not in load_metadata(other)


@register
class Drawing(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x) + Tensor(np.random.default_rng().standard_normal(3).astype(np.float32))


@pytest.mark.parametrize("make, probe, kind, message", [
    (network, (3, 32, 32), ValueError, "save: probe: "),
    (network, "yes", TypeError, "probe must be an array of inputs"),
    (network, (0, 3), TypeError, "probe must be an array of inputs"),
    (network, np.zeros((600_000, 6), np.float32), ValueError, "at most 1,048,576 are kept"),
    (network, np.zeros((0, 6), np.float32), ValueError, "a probe of 0 bytes"),
    (network, np.array(["a"]), TypeError, "a probe is of one of the dtypes"),
    (network, (2_000_000,), ValueError, "more than 1,048,576 numbers"),
    (network, np.full((2, 6), np.nan, np.float32), ValueError, "holds nan or infinity"),
    (Drawing, X, ValueError, "something else when it runs again, at the model itself first"),
    (nn.Sequential, True, ValueError, "nothing to save"),
    (lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Linear(3, 3)), True, ValueError, "no input was found"),
])
def test_a_probe_that_cannot_be_made_raises_and_keeps_the_old_file(path, make, probe, kind, message):
    save(trained(), path)
    old = path.read_bytes()
    with pytest.raises(kind, match=message):
        save(make(), path, probe=probe)
    assert path.read_bytes() == old


def test_create_model_proves_a_file_too(path):
    model = create_model("lenet5", num_classes=4)
    save(model, path, probe=True)
    create_model("lenet5", pretrained=path)
    tensors = load_tensors(path)
    next(iter(tensors.values())).reshape(-1)[0] += 1
    save_tensors(tensors, path, load_metadata(path))
    with pytest.raises(FileFormatError, match="is not the one that was saved"):
        create_model("lenet5", pretrained=path)


def first_input(**changes):
    return lambda probe: probe["inputs"][0].update(changes)


def first_output(**changes):
    return lambda probe: probe["outputs"][0].update(changes)


NAN = base64.b64encode(np.full(64, np.nan, "<f4").tobytes()).decode()
HOSTILE = {
    "not an object": lambda probe: probe.clear(),
    "an unknown field": lambda probe: probe.update(run="rm"),
    "no inputs": lambda probe: probe.update(inputs=[]),
    "many inputs": lambda probe: probe.update(inputs=probe["inputs"] * 9),
    "many outputs": lambda probe: probe.update(outputs=probe["outputs"] * 9),
    "the same output twice": lambda probe: probe["outputs"].append(probe["outputs"][0]),
    "an unknown module": first_output(path="nowhere"),
    "a huge input": first_input(shape=[2**20, 3, 8, 8]),
    "an overflowing input": first_input(shape=[2**39] * 4),
    "a negative input": first_input(shape=[-2, 3, 8, 8]),
    "an empty input": first_input(shape=[0, 3, 8, 8]),
    "an input of another shape": first_input(shape=[2, 4, 8, 8]),
    "an input of texts": first_input(dtype="object"),
    "indices without a bound": first_input(dtype="int64"),
    "indices of another dtype": first_input(below=9),
    "data of another size": first_input(data="AAAA"),
    "huge data": first_input(data="A" * 3_000_000),
    "data that are no base64": first_input(data="?" * 2048, shape=[2, 3, 8, 8]),
    "truth for a number": first_input(below=True),
    "values of another size": first_output(values="AAAA"),
    "values of nan": first_output(values=NAN),
    "values that are no base64": first_output(values="é" * len(NAN)),
    "huge values": first_output(values="A" * 3_000_000),
    "an infinite size": first_output(largest=1e308),
    "a size of hundreds of digits": first_output(largest=10**300),
    "a negative size": first_output(largest=-1.0),
    "shapes of texts": first_output(shapes=["a"]),
    "huge shapes": first_output(shapes=[[2**39] * 32]),
    "many shapes": first_output(shapes=[[1]] * 1000),
    "no shapes": first_output(shapes=[]),
    "a long path": first_output(path="x" * 5000),
    "a hash of another length": lambda probe: probe["sha256"].update({"fc.bias": "00"}),
    "a hash of a tensor that is not there": lambda probe: probe["sha256"].update({"nowhere": "0" * 64}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_probe_is_refused_and_leaves_the_model_alone(path, name):
    save(convolutional(), path, probe=(3, 8, 8))
    rewritten(path, HOSTILE[name])
    with pytest.raises(FileFormatError, match="model.safetensors"):
        load(path)
    model = convolutional()
    before = snapshot(model)
    if name == "an unknown module":  # which is no fault where the model is one's own
        assert "8 of 9 outputs reproduced" in ledger(load(path, model)).events[0].detail
        return
    with pytest.raises((FileFormatError, LoadError)):
        load(path, model)
    assert snapshot(model) == before


@pytest.mark.parametrize("layer", [
    nn.AdaptiveAvgPool2d(40_000), nn.AdaptiveMaxPool2d((3, 2**26)), nn.Upsample(scale_factor=5_000.0),
    nn.Upsample(size=(30_000, 30_000)), nn.Conv2d(4, 4, 1, padding=20_000),
    nn.ConvTranspose2d(4, 4, 1, stride=5_000), nn.Conv2d(4, 4, 1, padding=(0, 2**27), padding_mode="circular"),
], ids=repr)
def test_a_probe_claims_no_memory_that_a_few_bytes_ask_for(path, layer):
    """The architecture is hostile: a forward would take gigabytes."""
    model = nn.Sequential({"conv": nn.Conv2d(3, 4, 3, padding=1), "last": nn.AdaptiveAvgPool2d(1)})
    save(model, path, probe=(3, 8, 8))
    metadata, tensors = load_metadata(path), load_tensors(path)
    model.last = layer
    tensors |= {name: value.numpy() for name, value in model.state_dict().items()}
    probe = json.loads(metadata[PROBE])
    metadata |= {"minidl.architecture": json.dumps(transfer.structure(model)), PROBE: json.dumps(probe)}
    save_tensors(tensors, path, metadata)
    with pytest.raises(FileFormatError, match=r"'last' \(.*would make .* numbers|refuses its arguments|argument '"):
        load(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_becomes_of_a_probe_nothing_but_these_errors_comes_out(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    model = network()
    save(model, path, probe=X)
    values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                          | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3), max_leaves=5)

    def mutate(probe):
        node = probe
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
                node = node[key]
            else:
                node[key] = data.draw(values)
                return

    rewritten(path, mutate)
    given = network()
    before = snapshot(given)
    try:
        load(path, given)
    except (FileFormatError, LoadError):
        assert snapshot(given) == before
    else:
        assert bits(given) == bits(model)
