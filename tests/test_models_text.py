"""The models of texts: padding changes nothing, they learn, are saved and re-headed; word2vec's pairs and vectors."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minidl
from minidl import nn, optim
from minidl.data import SkipGrams, pad_sequences
from minidl.errors import ShapeError
from minidl.models import RecurrentClassifier, SkipGram, nearest
from minidl.tensor import Tensor, no_grad
from minidl.transfer import build, freeze, head_path, load, rehead, save, structure

TEXTS = [[1, 2, 3, 4, 5], [6], [7, 8], [1, 5, 2]]


def batch(texts=TEXTS):
    return tuple(map(Tensor, pad_sequences(texts)))


@pytest.mark.parametrize("recurrent", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("pool", ["mean", "max", "last"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_text_in_a_batch_is_as_if_it_were_alone(recurrent, pool, bidirectional):
    minidl.seed(0)
    model = RecurrentClassifier(9, 3, 5, 4, 2, recurrent, bidirectional, pool).eval()
    with no_grad():
        together = model(*batch()).numpy()
        alone = [model(*batch([text])).numpy()[0] for text in TEXTS]
        longer = model(Tensor(np.pad(batch()[0].numpy(), ((0, 0), (0, 3)), constant_values=8)), batch()[1]).numpy()
    assert together.shape == (4, 3)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together, longer, rtol=1e-5, atol=1e-6)
    assert np.abs(together - together[0]).max(axis=1)[1:].min() > 1e-3


def test_what_each_pool_takes():
    minidl.seed(1)
    ids, lengths = batch()
    for pool, of in (("mean", lambda rows: rows.mean(0)), ("max", lambda rows: rows.max(0))):
        model = RecurrentClassifier(9, 3, 5, 4, pool=pool).eval()
        states = model.recurrent(model.embedding(ids), None, lengths)[0].numpy()
        vectors = np.stack([of(row[:length]) for row, length in zip(states, lengths.numpy())])
        expected = model.output(Tensor(vectors)).numpy()
        np.testing.assert_allclose(model(ids, lengths).numpy(), expected, rtol=1e-5, atol=1e-6)
    model = RecurrentClassifier(9, 3, 5, 4, pool="last").eval()
    states = model.recurrent(model.embedding(ids), None, lengths)[0].numpy()
    ends = [np.concatenate([row[length - 1, :4], row[0, 4:]]) for row, length in zip(states, lengths.numpy())]
    expected = model.output(Tensor(np.stack(ends))).numpy()
    np.testing.assert_allclose(model(ids, lengths).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_it_learns_which_word_is_in_a_text():
    minidl.seed(0)
    generator = np.random.default_rng(0)
    texts = [generator.integers(2, 20, length) for length in generator.integers(3, 9, 64)]
    labels = np.arange(64) % 2
    for text, label in zip(texts, labels):
        text[generator.integers(len(text))] = label  # words 0 and 1 give it away; 0 is no padding here
    model = RecurrentClassifier(20, 2, 8, 8, recurrent="gru", dropout=0.0, padding_idx=None)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(*batch(texts)), Tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_it_is_saved_rebuilt_reheaded_and_frozen(tmp_path):
    model = RecurrentClassifier(9, 3, 5, 4, 2, "gru", False, "last", 0.25, None)
    twin = build(structure(model))
    assert twin.config() == model.config() and repr(twin) == repr(model)
    save(model, tmp_path / "texts.safetensors")
    loaded = load(tmp_path / "texts.safetensors").eval()
    np.testing.assert_array_equal(loaded(*batch()).numpy(), model.eval()(*batch()).numpy())
    assert head_path(model) == "output" and rehead(model, 7).output.out_features == 7
    freeze(model, "embedding")
    assert not model.embedding.weight.requires_grad and model.recurrent.weight_ih_l0.requires_grad


def test_word_vectors_are_loaded_and_must_fit():
    model = RecurrentClassifier(9, 2, 5, 4)
    assert 0.15 < model.embedding.weight.numpy().std() < 0.35 and (model.embedding.weight.numpy()[0] == 0).all()
    model.load_embeddings(np.ones((9, 5)))
    assert (model.embedding.weight.numpy()[1:] == 1).all() and (model.embedding.weight.numpy()[0] == 0).all()
    with pytest.raises(ShapeError, match=r"vectors of shape \(8, 5\) do not fit the weight \(9, 5\)"):
        model.load_embeddings(np.ones((8, 5)))
    for wrong in ({"recurrent": "cnn"}, {"pool": "sum"}):
        with pytest.raises(ValueError, match="recurrent is one of rnn, lstm, gru, pool one of mean, max, last"):
            RecurrentClassifier(9, 2, **wrong)


def test_errors_name_the_layer():
    model = RecurrentClassifier(9, 2, 5, 4)
    with pytest.raises(IndexError, match=r"embedding \(Embedding\(9, 5, padding_idx=0\)\).*index 9 at position \(0, 1"):
        model(*batch([[1, 9]]))
    with pytest.raises(ValueError, match="recurrent.*length"):
        model(batch()[0], Tensor(np.array([5, 0, 2, 3])))


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=5), window=st.integers(1, 4))
@example(texts=[[1, 2]], window=4)
def test_pairs_are_words_near_each_other_in_one_sentence(texts, window):
    kept = [[word for word in text if word != 0] for text in texts]
    if max(map(len, kept)) < 2:
        with pytest.raises(ValueError, match="no sentence of at least two known words"):
            SkipGrams(texts, 10, ignore=(0, None))
        return
    near = {}
    for text in kept:
        for i, j in ((i, j) for i in range(len(text)) for j in range(len(text)) if 0 < abs(i - j) <= window):
            near.setdefault(abs(i - j), []).append((text[i], text[j]))
    grams = SkipGrams(texts, 10, window=window, subsample=0, ignore=(0, None), generator=np.random.default_rng(0))
    centers, others = grams.pairs()
    found = sorted(zip(centers.tolist(), others.tolist()))
    everything = sorted(pair for pairs in near.values() for pair in pairs)
    if window == 1:
        assert found == everything
    pool = list(everything)
    for pair in found:  # each found pair is one of the text's, and taken once
        pool.remove(pair)
    for pair in near[1]:  # neighbours are always taken
        assert found.count(pair) >= near[1].count(pair)


def test_rare_words_stay_frequent_ones_go_and_noise_follows_the_counts():
    texts = [[1] * 3 + [2]] * 400 + [[3, 4]] * 4
    grams = SkipGrams(texts, 5, 100, window=3, negatives=3, subsample=1e-2, generator=np.random.default_rng(0))
    centers, words = map(np.concatenate, zip(*[(c.numpy(), w.numpy()) for c, w in grams]))
    assert words.shape == (len(centers), 4) and centers.dtype == words.dtype == np.int64
    counts = np.bincount(centers, minlength=5)
    assert counts[0] == 0 and counts[1] < 0.2 * 1200 * 3, "sqrt(0.01 / 0.74) of the 1s are kept"
    assert counts[3] == counts[4] == 4, "rare words are all kept"
    drawn = np.bincount(grams.draw(20_000).reshape(-1), minlength=5) / 60_000
    expected = np.array([0, 1200, 400, 4, 4]) ** 0.75
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.01)
    first, second = grams.pairs(), grams.pairs()
    assert len(first[0]) != len(second[0]) or (first[0] != second[0]).any(), "drawn anew in each pass"


@pytest.mark.parametrize("options, error, message", [
    ({"num_tokens": 3}, IndexError, "the id 3 lies outside the vocabulary of 3 tokens"),
    ({"num_tokens": 9, "window": 0}, ValueError, "window must be at least 1"),
    ({"num_tokens": 9, "negatives": 0}, ValueError, "negatives must be at least 1"),
    ({"num_tokens": 9, "generator": 3}, TypeError, "not int"),
])
def test_skip_grams_that_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        SkipGrams([[1, 2, 3]], **options)


def test_the_loss_of_word2vec_is_the_formula():
    minidl.seed(0)
    model = SkipGram(7, 4)
    assert (model.context_vectors.weight.numpy() == 0).all()
    assert 0.1 < np.abs(model.center_vectors.weight.numpy()).max() <= 0.125
    center, words = Tensor(np.array([1, 2])), Tensor(np.array([[3, 4, 4], [5, 6, 1]]))
    assert model(center, words).item() == pytest.approx(3 * np.log(2), rel=1e-6), "with zeros s(x) is a half"
    for table in (model.center_vectors, model.context_vectors):
        table.weight = nn.Parameter(np.random.default_rng(1).standard_normal((7, 4)))
    u, v = model.center_vectors.weight.numpy(), model.context_vectors.weight.numpy()
    signs = np.array([1, -1, -1])
    expected = np.mean([np.log1p(np.exp(-signs * (v[w] @ u[c]))).sum()
                        for c, w in zip(center.numpy(), words.numpy())])
    assert model(center, words).item() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ShapeError, match=r"got \(2,\) and \(3, 2\)"):
        model(center, Tensor(np.zeros((3, 2), np.int64)))
    with pytest.raises(IndexError, match="context_vectors.*index 7"):
        model(center, Tensor(np.array([[7], [1]])))


def test_words_of_like_company_get_like_vectors():
    minidl.seed(0)
    generator = np.random.default_rng(0)
    topics = [generator.permutation(np.arange(10) + 10 * (i % 2)) for i in range(400)]  # words 0-9, words 10-19
    model = SkipGram(20, 8)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    grams = SkipGrams(topics, 20, batch_size=1024, subsample=0)
    for _ in range(3):
        for center, words in grams:
            loss = model(center, words)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    vectors = model.center_vectors.weight
    for word in (0, 5, 13, 19):
        assert {row // 10 for row, _ in nearest(vectors, word, 9)} == {word // 10}


def test_the_nearest_by_angle():
    vectors = np.array([[1, 0], [0, 0], [10, 1], [0, 1], [-1, 0]], np.float32)
    found = nearest(vectors, 0, 3)
    assert [row for row, _ in found] == [2, 1, 3] and found[0][1] == pytest.approx(10 / 101**0.5)
    assert 0 not in [row for row, _ in nearest(vectors, 0, 9)][:-1]
