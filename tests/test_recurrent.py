"""Recurrent layers and cells: against PyTorch, padded against alone, and what they say about wrong input."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_cases import VARIANTS, compute

import minidl
from minidl import nn
from minidl.nn.utils import rnn
from minidl.tensor import Tensor

GOLDEN = np.load(Path(__file__).with_name("golden") / "recurrent.npz")
LAYERS = ("RNN", "LSTM", "GRU")
every_layer = pytest.mark.parametrize("kind", LAYERS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["float64", "float32"])
def test_agrees_with_pytorch(name, dtype, tolerance):
    values = compute(minidl, name, dtype)
    assert list(values) == [key for key in GOLDEN.files if key.split("/")[0] == name]
    for key, value in values.items():
        expected = GOLDEN[key]
        assert value.dtype == dtype and value.shape == expected.shape, key
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=key)


def layer_of(kind, *sizes, **options):
    minidl.seed(0)
    return getattr(nn, kind)(*sizes, **options)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(LAYERS), lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
       both=st.booleans(), batch_first=st.booleans(), layers=st.integers(1, 2), extra=st.integers(0, 2))
def test_padded_sequences_give_what_each_gives_alone(kind, lengths, both, batch_first, layers, extra):
    layer = layer_of(kind, 3, 6, layers, batch_first=batch_first, bidirectional=both)
    steps = max(lengths) + extra
    x = Tensor(normal(len(lengths), steps, 3), requires_grad=True)
    output, last = layer(x if batch_first else x.transpose(0, 1), lengths=lengths)
    output = output if batch_first else output.transpose(0, 1)
    output.backward(normal(*output.shape, seed=1))
    last = last if isinstance(last, tuple) else (last,)
    assert output.shape == (len(lengths), steps, 12 if both else 6)
    for number, length in enumerate(lengths):
        alone = Tensor(x.numpy()[number, :length].copy(), requires_grad=True)
        expected, states = layer(alone)
        expected.backward(normal(*output.shape, seed=1)[number, :length])
        np.testing.assert_allclose(output.numpy()[number, :length], expected.numpy(), rtol=0, atol=1e-6)
        assert not output.numpy()[number, length:].any() and not x.grad.numpy()[number, length:].any()
        np.testing.assert_allclose(x.grad.numpy()[number, :length], alone.grad.numpy(), rtol=0, atol=1e-5)
        for ours, other in zip(last, states if isinstance(states, tuple) else (states,), strict=True):
            np.testing.assert_allclose(ours.numpy()[:, number], other.numpy(), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=7), batch_first=st.booleans(),
       trailing=st.lists(st.integers(1, 3), max_size=2), total=st.integers(0, 3))
def test_packing_and_unpacking_are_inverse(lengths, batch_first, trailing, total):
    sequences = [Tensor(normal(length, *trailing, seed=length)) for length in lengths]
    padded = rnn.pad_sequence(sequences, batch_first, padding_value=9.0)
    shape = (len(lengths), max(lengths)) if batch_first else (max(lengths), len(lengths))
    assert padded.shape == (*shape, *trailing)
    packed = rnn.pack_padded_sequence(padded, Tensor(np.array(lengths)), batch_first, enforce_sorted=False)
    assert len(packed.data) == sum(lengths) and packed.data.shape == rnn.pack_sequence(sequences, False).data.shape
    back, sizes = rnn.pad_packed_sequence(packed, batch_first, 9.0, max(lengths) + total)
    assert sizes.tolist() == lengths
    kept = back.numpy()[:, :max(lengths)] if batch_first else back.numpy()[:max(lengths)]
    np.testing.assert_array_equal(kept, padded.numpy())
    assert (back.numpy() == 9).sum() >= total * len(lengths) * int(np.prod(trailing))
    for ours, unpadded, sequence in zip(rnn.unpack_sequence(packed), rnn.unpad_sequence(padded, lengths, batch_first),
                                        sequences, strict=True):
        np.testing.assert_array_equal(ours.numpy(), sequence.numpy())
        np.testing.assert_array_equal(unpadded.numpy(), sequence.numpy())


def test_sequences_padded_on_the_left_and_packed_words():
    words = [np.array([1, 2, 3]), np.array([4])]
    np.testing.assert_array_equal(rnn.pad_sequence(words, True, -1, "left").numpy(), [[1, 2, 3], [-1, -1, 4]])
    packed = rnn.pack_sequence(words)
    assert packed.data.tolist() == [1, 4, 2, 3] and packed.batch_sizes.tolist() == [2, 1, 1]
    assert packed.sorted_indices is None
    unsorted = rnn.pack_sequence(words[::-1], enforce_sorted=False)
    assert unsorted.data.tolist() == [1, 4, 2, 3] and unsorted.sorted_indices.tolist() == [1, 0]
    assert unsorted.unsorted_indices.tolist() == [1, 0]


@every_layer
def test_parameters_start_within_the_bound_and_fill_it(kind):
    layer = layer_of(kind, 30, 25, 2, bidirectional=True)
    for name, parameter in layer.named_parameters():
        assert np.abs(parameter.numpy()).max() <= 0.2, name
        assert np.abs(parameter.numpy()).max() > 0.18, name
    assert [len(weights) for weights in layer.all_weights] == [4] * 4


@every_layer
def test_dropout_is_between_layers_and_in_training_only(kind):
    layer, x = layer_of(kind, 3, 4, 2, dropout=1.0), Tensor(normal(5, 2, 3))
    without = layer_of(kind, 3, 4, 2)
    np.testing.assert_array_equal(layer.eval()(x)[0].numpy(), without(x)[0].numpy())
    layer.train()
    changed, _ = layer(x)
    other, _ = layer(Tensor(normal(5, 2, 3, seed=1)))
    np.testing.assert_array_equal(changed.numpy(), other.numpy())  # the second layer sees nothing but zeros
    assert not np.array_equal(changed.numpy(), without(x)[0].numpy())


@every_layer
def test_a_frozen_layer_computes_no_gradients_and_passes_them_on(kind, monkeypatch):
    layer, x = layer_of(kind, 3, 4), Tensor(normal(5, 2, 3), requires_grad=True)
    layer.requires_grad_(False)
    monkeypatch.setattr(minidl.kernels, "linear_grad_weight", None)
    layer(x)[0].sum().backward()
    assert x.grad.numpy().all() and all(parameter.grad is None for parameter in layer.parameters())


@every_layer
def test_the_graph_can_be_walked_twice(kind):
    layer, x = layer_of(kind, 3, 4), Tensor(normal(5, 2, 3))
    output, last = layer(x)
    g = normal(5, 2, 4, seed=1)
    output.backward(g, retain_graph=True)
    once = {name: parameter.grad.numpy().copy() for name, parameter in layer.named_parameters()}
    output.backward(g)
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), 2 * once[name], rtol=1e-6)


@every_layer
def test_saved_loaded_and_summarised(kind, tmp_path):
    model = nn.Sequential(layer_of(kind, 3, 4, 2, batch_first=True, bidirectional=True))
    minidl.transfer.save(model, tmp_path / "model.safetensors")
    twin, x = minidl.transfer.load(tmp_path / "model.safetensors"), Tensor(normal(2, 5, 3))
    np.testing.assert_array_equal(twin(x)[0].numpy(), model(x)[0].numpy())
    assert "(N, 5, 8)" in model.summary((5, 3)) and kind in model.summary()


def test_summary_of_words():
    class Words(nn.Module):
        def __init__(self):
            self.embedding, self.rnn = nn.Embedding(20, 3), nn.GRU(3, 4, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(self.embedding(x))[1][-1])

    text = Words().summary((7,))
    assert "(N, 7, 3)" in text and "(N, 7, 4)" in text and "(N, 2)" in text


CELLS = {"RNNCell": "RNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}


@pytest.mark.parametrize("kind", CELLS)
def test_cells_step_by_step_are_the_layer(kind):
    cell, layer, x = layer_of(kind, 3, 4), layer_of(CELLS[kind], 3, 4), Tensor(normal(6, 2, 3))
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    state = None
    for step in range(6):
        state = cell(x[step], state)
    last = layer(x)[1]
    ours, other = (state[1], last[1][0]) if kind == "LSTMCell" else (state, last[0])
    np.testing.assert_allclose(ours.numpy(), other.numpy(), rtol=0, atol=1e-6)


WRONG = {
    "axes": (lambda layer, x: layer(x[None]), ValueError, r"expected, not \(1, 5, 2, 3\)"),
    "features": (lambda layer, x: layer(x[:, :, :2]), ValueError, r"has 2 features.*input_size is 3"),
    "words": (lambda layer, x: layer(Tensor(np.zeros((5, 2, 3), np.int64))), TypeError, r"int64.*nn.Embedding"),
    "states": (lambda layer, x: layer(x, Tensor(normal(1, 3, 4))), (ValueError, TypeError),
               r"h_0 of shape \(1, 2, 4\).*\(1, 3, 4\)|pair \(h_0, c_0\)"),
    "zero": (lambda layer, x: layer(x, lengths=[5, 0]), ValueError, r"lengths\[1\] is 0.*from 1 to 5"),
    "beyond": (lambda layer, x: layer(x, lengths=[5, 6]), ValueError, r"lengths\[1\] is 6.*from 1 to 5"),
    "count": (lambda layer, x: layer(x, lengths=[5, 4, 3]), ValueError, r"2 lengths are needed.*\(3,\)"),
    "fractions": (lambda layer, x: layer(x, lengths=np.array([5.0, 4.0])), TypeError, "float64"),
}


@every_layer
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_by_name_and_number(kind, case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=rf"(?s)^{kind}\(3, 4\): .*({message})"):
        call(layer_of(kind, 3, 4), Tensor(normal(5, 2, 3)))


def test_wrong_pair_of_states():
    layer, x = nn.LSTM(3, 4), Tensor(normal(5, 2, 3))
    with pytest.raises(ValueError, match=r"c_0 of shape \(1, 2, 4\).*\(1, 2, 5\)"):
        layer(x, (Tensor(normal(1, 2, 4)), Tensor(normal(1, 2, 5))))
    with pytest.raises(ValueError, match=r"h_0 of shape \(1, 4\)"):
        layer(x[:, 0], (Tensor(normal(1, 1, 4)), Tensor(normal(1, 1, 4))))
    with pytest.raises(TypeError, match=r"pair \(h, c\)"):
        nn.LSTMCell(3, 4)(x[0], Tensor(normal(2, 4)))
    with pytest.raises(ValueError, match=r"state of shape \(2, 4\).*not \(2, 5\)"):
        nn.GRUCell(3, 4)(x[0], Tensor(normal(2, 5)))


def test_wrong_packing():
    x = Tensor(normal(5, 3, 2))
    with pytest.raises(ValueError, match=r"lengths\[2\] is 5, longer than lengths\[1\], which is 3.*enforce_sorted"):
        rnn.pack_padded_sequence(x, [4, 3, 5])
    with pytest.raises(ValueError, match="total_length is 4, the longest sequence has 5"):
        rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, [5, 3, 1]), total_length=4)
    with pytest.raises(ValueError, match=r"\(2, 3\), \(4, 2\)"):
        rnn.pad_sequence([normal(2, 3), normal(4, 2)])
    with pytest.raises(ValueError, match="no sequences"):
        rnn.pack_sequence([])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'sigmoid'"):
        nn.RNN(3, 4, nonlinearity="sigmoid")
    with pytest.raises(NotImplementedError, match="proj_size=2"):
        nn.LSTM(3, 4, proj_size=2)
    with pytest.raises(ValueError, match="num_layers.*0"):
        nn.GRU(3, 4, 0)
    with pytest.raises(ValueError, match="between 0 and 1, not 1.5"):
        nn.GRU(3, 4, 2, dropout=1.5)
