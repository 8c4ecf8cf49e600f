"""GPT computes what GPT-2 of transformers does, forward and backward, and the cache changes nothing but the time."""

from pathlib import Path

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import optim, transfer
from minidl.models import GPT
from minidl.tensor import Tensor

GOLDEN = np.load(Path(__file__).parent / "golden" / "gpt.npz")


def golden_model(dtype=np.float64):
    model = GPT(13, 8, n_layer=2, n_head=3, n_embd=12).to(dtype=dtype)
    model.load_state_dict({name.removeprefix("weight/"): GOLDEN[name].astype(dtype) for name in GOLDEN.files
                           if name.startswith("weight/")})
    return model


def small(seed=0, **options):
    minidl.seed(seed)
    model = GPT(11, 8, **{"n_layer": 2, "n_head": 2, "n_embd": 8, **options})
    for parameter in model.parameters():  # scores that differ from each other
        parameter.array *= 10
    return model


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_scores_and_all_gradients_are_those_of_transformers(backend, dtype, tolerance):
    model, ids = golden_model(dtype), GOLDEN["ids"]
    with minidl.use_backend(backend):
        scores = model(ids)
        loss = F.cross_entropy(scores[:, :-1].reshape(-1, 13), Tensor(ids[:, 1:].reshape(-1)))
        loss.backward()
    assert scores.dtype == dtype
    assert np.abs(scores.numpy() - GOLDEN["scores"]).max() <= tolerance * np.abs(GOLDEN["scores"]).max()
    assert abs(loss.item() - GOLDEN["loss"]) <= tolerance * GOLDEN["loss"]
    for name, parameter in model.named_parameters():
        expected = GOLDEN[f"gradient/{name}"]
        assert np.abs(parameter.grad.numpy() - expected).max() <= tolerance * np.abs(expected).max(), name


def test_a_head_of_its_own_and_no_biases():
    tied, untied = GPT(65, 64, 4, 4, 128, bias=False), GPT(65, 64, 4, 4, 128, bias=False, tied=False)
    count = 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    assert sum(p.numel() for p in tied.parameters()) == count
    assert sum(p.numel() for p in untied.parameters()) == count + 65 * 128
    assert untied.lm_head.weight is not untied.wte.weight
    assert abs(tied.h[0].mlp.c_proj.weight.numpy().std() - 0.02 / 8**0.5) < 1e-4


def test_no_token_sees_what_comes_after_it():
    model = small()
    ids = np.random.default_rng(0).integers(0, 11, (1, 8))
    other = ids.copy()
    other[0, 5] = (other[0, 5] + 1) % 11
    one, two = model(ids).numpy(), model(other).numpy()
    assert np.array_equal(one[:, :5], two[:, :5])
    assert np.abs(one[:, 5:] - two[:, 5:]).max() > 1e-3


@pytest.mark.parametrize("pieces", [(8,), (1,) * 8, (3, 1, 4)])
def test_reading_piece_by_piece_with_the_cache_gives_the_same_scores(pieces):
    model, ids = golden_model(), GOLDEN["ids"]
    cache, start = model.new_cache(2), 0
    with minidl.no_grad():
        for length in pieces:
            scores = model(ids[:, start:start + length], cache)
            start += length
            assert scores.shape == (2, 1, 13)
            assert np.abs(scores.numpy()[:, 0] - GOLDEN["scores"][:, start - 1]).max() < 1e-10


def test_what_is_generated_with_the_cache_is_what_the_whole_text_says_also_beyond_the_block():
    model = small().double()
    begin = np.array([[1, 2], [3, 4]])
    found = model.generate(begin, 14, temperature=0)
    expected = begin
    for _ in range(14):
        scores = model(expected[:, -8:]).numpy()[:, -1]
        expected = np.concatenate([expected, scores.argmax(1)[:, None]], axis=1)
    assert found.tolist() == expected.tolist()


def test_draws_follow_the_softmax_among_the_top_k():
    model = small()
    begin = np.full((4000, 1), 3)
    scores = model(begin[:1]).numpy()[0, -1].astype(np.float64)
    drawn = model.generate(begin, 1, temperature=5.0, top_k=4, generator=np.random.default_rng(0))[:, 1]
    best = np.argsort(scores)[::-1][:4]
    assert set(drawn) == set(best)
    odds = np.exp((scores[best] - scores[best].max()) / 5)
    shares = np.array([(drawn == token).mean() for token in best])
    assert np.abs(shares - odds / odds.sum()).max() < 0.03  # four standard errors of 4,000 draws
    again = model.generate(begin, 1, temperature=5.0, top_k=4, generator=np.random.default_rng(0))[:, 1]
    assert np.array_equal(drawn, again)


def test_it_learns_a_text_by_heart_and_writes_it_again_after_saving(tmp_path):
    minidl.seed(0)
    text = np.array([[0, 1, 2, 3, 0, 4, 5, 2, 6]])
    model = GPT(7, 8, n_layer=1, n_head=2, n_embd=16, tied=False, dropout=0.1)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = F.cross_entropy(model(text[:, :-1]).reshape(-1, 7), Tensor(text[0, 1:]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.generate(text[:, :1], 8, temperature=0).tolist() == text.tolist()
    assert model.training  # as before
    transfer.save(model, tmp_path / "gpt.safetensors")
    assert transfer.load(tmp_path / "gpt.safetensors").generate(text[:, :1], 8, temperature=0).tolist() == text.tolist()


@pytest.mark.parametrize("call, error, words", [
    (lambda model: model(np.zeros((1, 9), np.int64)), ValueError, r"\(1, 9\) are 9 tokens, the position table has 8"),
    (lambda model: model([[11]]), IndexError, r"wte .*index 11 at position \(0, 0\) .* 11 rows"),
    (lambda model: model([1, 2]), ValueError, r"\(N, T\) are needed.*\(2,\)"),
    (lambda model: model.generate([[1]], 1, temperature=-1), ValueError, "temperature .* not -1"),
    (lambda model: model.generate([[1]], 1, top_k=12), ValueError, "between 1 and 11, the tokens there are, not 12"),
    (lambda model: model.generate(np.zeros((1, 0), np.int64), 1), ValueError, r"at least one token each, not \(1, 0\)"),
    (lambda model: GPT(11, 8, 1, 3, 8), ValueError, "a width of 8 cannot be split among 3 heads"),
])
def test_bad_inputs_are_named_with_their_numbers(call, error, words):
    with pytest.raises(error, match=words):
        call(small())
