"""Sequences in batches: padded and masked as they should be, each once an epoch, similar lengths together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import nn, optim, random
from minidl.data import BucketBatchSampler, DataLoader, SequenceDataset, length_mask, pad_sequences
from minidl.errors import ShapeError
from minidl.tensor import Tensor
from minidl.train import Trainer

sequences = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(sequences=sequences, padding=st.integers(-1, 3), most=st.none() | st.integers(1, 9))
def test_padding_fills_up_behind(sequences, padding, most):
    ids, lengths = pad_sequences(sequences, padding, most)
    cut = [sequence[:most] for sequence in sequences]
    assert ids.dtype == lengths.dtype == np.int64 and lengths.tolist() == [len(each) for each in cut]
    assert ids.shape == (len(cut), max(lengths))
    mask = length_mask(Tensor(lengths))
    for row, inside, each in zip(ids, mask, cut):
        assert row[: len(each)].tolist() == each and (row[len(each) :] == padding).all()
        assert inside.tolist() == [True] * len(each) + [False] * (ids.shape[1] - len(each))
    assert length_mask(lengths, 12).shape == (len(cut), 12) and length_mask(lengths, 12).sum() == sum(lengths)


@settings(max_examples=80, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), size=st.integers(1, 9), pool=st.integers(1, 4),
       shuffle=st.booleans(), drop=st.booleans(), seed=st.integers(0, 3))
def test_each_sample_once_an_epoch(lengths, size, pool, shuffle, drop, seed):
    sampler = BucketBatchSampler(lengths, size, shuffle, drop, pool, np.random.default_rng(seed))
    again = BucketBatchSampler(lengths, size, shuffle, drop, pool, np.random.default_rng(seed))
    for _ in range(2):  # epochs
        batches = [batch.tolist() for batch in sampler]
        assert len(batches) == len(sampler) and [len(batch) for batch in batches].count(size) >= len(batches) - 1
        seen = [index for batch in batches for index in batch]
        assert len(seen) == len(set(seen)) == sampler.samples
        assert len(seen) == (len(lengths) // size * size if drop else len(lengths))
        assert batches == [batch.tolist() for batch in again]
    if not shuffle:
        in_order = [lengths[index] for index in seen]
        assert in_order == sorted(in_order)


def test_buckets_save_padding_and_differ_from_epoch_to_epoch():
    lengths = np.random.default_rng(0).integers(1, 60, 2000)
    sampler = BucketBatchSampler(lengths, 32, pool=20)
    random.seed(3)
    first, second = list(sampler), list(sampler)
    random.seed(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, sampler))
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}
    padded = sum(lengths[batch].max() * len(batch) for batch in first)
    assert lengths.sum() / padded > 0.93, "in random batches it is about 0.5"
    longest = np.array([lengths[batch].max() for batch in first])
    assert (np.diff(longest[:20]) < 0).any() and (np.diff(longest[:20]) > 0).any(), "the batches come in random order"


def test_a_loader_hands_out_padded_batches():
    dataset = SequenceDataset([[1, 2, 3], [4], np.array([5, 6], np.uint8)], [0.5, 1.5, 2.5], padding_value=9)
    assert repr(dataset) == "SequenceDataset(3 sequences of up to 3 tokens)" and len(dataset) == 3
    ids, length, label = dataset[-1]
    assert ids.tolist() == [5, 6] and length == 2 and label == 2.5
    loader = DataLoader(dataset, batch_sampler=BucketBatchSampler(dataset.lengths, 2, shuffle=False))
    batches = list(loader)
    assert len(loader) == 2 and loader.batch_size is None
    assert [part.array.tolist() for part in batches[0]] == [[[4, 9], [5, 6]], [1, 2], [1.5, 2.5]]
    assert batches[1][0].array.tolist() == [[1, 2, 3]] and batches[1][0].dtype == np.int64
    assert len(next(iter(DataLoader(SequenceDataset([[1]]))))) == 2, "without labels: ids and lengths"
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_any_sampler_of_batches_will_do(workers):
    dataset = SequenceDataset([[1], [2], [3]])
    loader = DataLoader(dataset, batch_sampler=[(2, 0), np.array([1])], num_workers=workers)
    assert [batch[0].array.tolist() for batch in loader] == [[[3], [1]], [[2]]] and len(loader) == 2
    with pytest.raises(IndexError, match="the batch_sampler gave index 3, the data set has 3 items"):
        iter(DataLoader(dataset, batch_sampler=[[0, 3]]))
    for wrong in ([[]], [[0.5]], [[[0]]]):
        with pytest.raises(TypeError, match="the batch_sampler must give lists of integer indices, and at least one"):
            iter(DataLoader(dataset, batch_sampler=wrong))


@pytest.mark.parametrize("given, error, message", [
    (([[1], []],), ValueError, "sequence 1 is empty; leave it out"),
    ((["abc"],), TypeError, "sequence 0 must be a list of token ids.*encode"),
    (([[0.5]],), TypeError, "got float64 of shape"),
    (([[[1]]],), TypeError, r"got int64 of shape \(1, 1\)"),
    (([[1], [2]], [0]), ShapeError, r"2 sequences need as many labels, got labels of shape \(1,\)"),
    (([[1]], None, 0, 0), ValueError, "max_length must be at least 1, got 0"),
])
def test_sequences_that_cannot_be(given, error, message):
    with pytest.raises(error, match=message):
        SequenceDataset(*given)


def test_samplers_that_cannot_be():
    with pytest.raises(ValueError, match=r"at least one sequence are needed, got shape \(0,\)"):
        BucketBatchSampler([], 2)
    for options in ({"batch_size": 0}, {"batch_size": 2, "pool": 0}, {"batch_size": True}):
        with pytest.raises(ValueError, match="must be an integer of at least 1"):
            BucketBatchSampler([1, 2], **options)
    with pytest.raises(TypeError, match="not int"):
        BucketBatchSampler([1, 2], 2, generator=1)


class MeanOfTokens(nn.Module):
    """Embedding, mean over the tokens of a text, linear layer."""

    def __init__(self, tokens):
        self.embedding, self.output = nn.Embedding(tokens, 4, padding_idx=0), nn.Linear(4, 2)

    def forward(self, ids, lengths):
        return self.output(self.embedding(ids).sum(dim=1) / lengths.float().unsqueeze(1))


def test_a_trainer_learns_from_buckets(capsys):
    random.seed(0)
    generator = np.random.default_rng(0)
    texts = [generator.integers(1, 6, length) for length in generator.integers(1, 9, 120)]
    dataset = SequenceDataset(texts, [int(text[0] in (1, 2)) for text in texts])
    loader = DataLoader(dataset, batch_sampler=BucketBatchSampler(dataset.lengths, 8))
    model = MeanOfTokens(6)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05))
    history = trainer.fit(loader, epochs=4)
    assert history["loss"][-1] < 0.75 * history["loss"][0]
    assert "epoch 4/4" in capsys.readouterr().out
    with pytest.raises(IndexError, match=r"epoch 1, step 1: embedding \(Embedding\(6, 4, padding_idx=0\)\): embedding: "
                                         r"index 6 at position \(0, 0\) lies outside the 6 rows"):
        trainer.fit(SequenceDataset([[6]], [0]), epochs=1)
