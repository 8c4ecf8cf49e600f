"""LoRA: adapters beside frozen weights, merged and taken out again bit for bit, alone in a file or with the model."""

import copy
import hashlib
import json

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import FileFormatError, nn, optim, transfer
from minidl.gradcheck import check_gradients
from minidl.models import BertModel
from minidl.tensor import Tensor
from minidl.train import Trainer
from minidl.transfer.lora_layers import LoRAConv2d, LoRALinear, LoRAMultiheadAttention

X = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0])


@transfer.register
class Attends(nn.Module):
    """Attention over the pixels, in both of its forms: packed, and with the weights made."""

    def __init__(self, width: int = 8, dropout: float = 0.0):
        self.width, self.dropout = width, dropout
        self.attention = nn.MultiheadAttention(width, 2, dropout, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(width, 2, 12, dropout, batch_first=True)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)  # N, T, C
        y, _ = self.attention(x, x, x, need_weights=True)
        return self.layer(y).mean(1)


def network():
    minidl.seed(0)
    return nn.Sequential({
        "body": nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)),
        "attends": Attends(),
        "neck": nn.Sequential(nn.Linear(8, 6), nn.ReLU()),
        "head": nn.Linear(6, 3),
    })


def answers(model):
    return model.eval()(Tensor(X)).numpy().copy()


def hashes(model):
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in model.state_dict().items()}


def train(model, make=lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.1), epochs=3):
    trainer = Trainer(model, nn.CrossEntropyLoss(), make(model.named_parameters()))
    trainer.fit((X, LABELS), epochs=epochs, batch_size=3, progress=False)
    return model


def adapted(also="head", rank=2, **options):
    return transfer.lora(network(), "body", "attends", "neck", rank=rank, also=also,
                         generator=np.random.default_rng(1), **options)


def test_the_outputs_are_at_first_the_same_bit_for_bit_and_names_of_weights_stay():
    model = network()
    before, names = answers(model), list(model.state_dict())
    transfer.lora(model, "*", rank=2)
    assert answers(model).tobytes() == before.tobytes()
    new = [name for name in model.state_dict() if name not in names]
    assert new[:2] == ["body.0.lora_A.weight", "body.0.lora_B.weight"] and len(new) == 2 * 9
    assert [name for name in model.state_dict() if name in names] == names
    kinds = {path: type(layer) for path, layer in transfer.adapters(model).items()}
    assert kinds == {"body.0": LoRAConv2d, "attends.attention": LoRAMultiheadAttention,
                     "attends.attention.out_proj": LoRALinear, "attends.layer.self_attn": LoRAMultiheadAttention,
                     "attends.layer.self_attn.out_proj": LoRALinear, "attends.layer.linear1": LoRALinear,
                     "attends.layer.linear2": LoRALinear, "neck.0": LoRALinear, "head": LoRALinear}


def numpy_linear(x, w, b, a, b2, scaling):
    return x @ w.T + b + scaling * (x @ a.T) @ b2.T


@pytest.mark.parametrize("rank, alpha", [(1, 16), (3, 2.5)])
def test_linear_is_the_formula_of_the_paper_forward_and_backward(rank, alpha):
    rng = np.random.default_rng(2)
    x, g = rng.standard_normal((4, 5, 6)), rng.standard_normal((4, 5, 7))
    model = transfer.lora(nn.Sequential(nn.Linear(6, 7).double()), rank=rank, alpha=alpha)
    layer = model[0]
    layer.lora_B.weight.array[...] = rng.standard_normal((7, rank))
    w, b, a, b2 = (p.numpy() for p in (layer.weight, layer.bias, layer.lora_A.weight, layer.lora_B.weight))
    assert a.dtype == b2.dtype == np.float64
    scaling = alpha / rank
    inputs = Tensor(x, requires_grad=True)
    y = model(inputs)
    np.testing.assert_allclose(y.numpy(), numpy_linear(x, w, b, a, b2, scaling), rtol=1e-12)
    y.backward(g)
    rows, flat = x.reshape(-1, 6), g.reshape(-1, 7)
    np.testing.assert_allclose(layer.lora_A.weight.grad.numpy(), scaling * (flat @ b2).T @ rows, rtol=1e-10)
    np.testing.assert_allclose(layer.lora_B.weight.grad.numpy(), scaling * flat.T @ (rows @ a.T), rtol=1e-10)
    np.testing.assert_allclose(inputs.grad.numpy(), g @ (w + scaling * b2 @ a), rtol=1e-10)
    assert layer.weight.grad is None and layer.bias.grad is None


CASES = {
    "linear": (lambda: nn.Linear(6, 5), (4, 6)),
    "conv": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 4, 7, 8)),
    "reflecting conv": (lambda: nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect", bias=False), (2, 4, 5, 5)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (5, 3, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_and_merging_of_every_layer(name):
    """Merged, the plain layer with W + (alpha / rank) B A gives what weight and adapter gave apart."""
    make, shape = CASES[name]
    model = transfer.lora(nn.ModuleDict({"layer": make().double()}), rank=3, alpha=5.0)
    layer = model["layer"]
    rng = np.random.default_rng(3)
    layer.lora_B.weight.array[...] = rng.standard_normal(layer.lora_B.weight.shape)
    pair = [layer.lora_A.weight, layer.lora_B.weight]

    def forward(x, a, b):
        vars(layer.lora_A)["weight"], vars(layer.lora_B)["weight"] = a, b
        return layer(x, x, x, need_weights=False)[0] if name == "attention" else layer(x)

    x = rng.standard_normal(shape)
    check_gradients(forward, [x, *(p.numpy() for p in pair)])
    apart = forward(Tensor(x), *pair).numpy()
    transfer.merge(model)
    plain = model["layer"]
    assert type(plain) is type(make())
    together = plain(*(Tensor(x),) * 3)[0] if name == "attention" else plain(Tensor(x))
    np.testing.assert_allclose(together.numpy(), apart, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), lambda p: optim.Adam(p, lr=0.05, weight_decay=0.1),
    lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.1), lambda p: optim.RMSprop(p, lr=0.01, weight_decay=0.1),
], ids=["sgd", "adam", "adamw", "rmsprop"])
def test_training_moves_the_adapters_and_the_head_and_not_a_bit_of_the_rest(make):
    model = adapted(dropout=0.0)
    before = hashes(model)
    count = transfer.trainable(model)
    assert count == sum(p.numel() for name, p in model.named_parameters() if "lora_" in name or "head" in name)
    assert transfer.frozen(model) == sum(p.numel() for p in network().parameters()) - 21
    train(model, make)
    moved = {name for name, value in hashes(model).items() if value != before[name]}
    assert moved == {name for name in before if "lora_" in name or name.startswith("head.")}
    assert not model.train().body[1].training and not model.body[3].training


def test_merge_keeps_outputs_and_names_and_unmerge_and_removal_give_the_old_bits_back():
    model, base = adapted(), network()
    train(model)
    trained, weights = answers(model), hashes(model)
    assert transfer.merge(model) is model
    assert repr(model) == repr(base) and list(model.state_dict()) == list(base.state_dict())
    assert {type(m) for m in model.modules()} == {type(m) for m in base.modules()}
    merged = answers(model)
    np.testing.assert_allclose(merged, trained, rtol=1e-5, atol=1e-5)
    assert (merged != answers(base)).any()
    assert not model.body[0].weight.requires_grad
    transfer.unmerge(model)
    assert hashes(model) == weights and answers(model).tobytes() == trained.tobytes()
    train(model, epochs=1)
    assert hashes(model)["attends.layer.self_attn.out_proj.lora_B.weight"] != weights[
        "attends.layer.self_attn.out_proj.lora_B.weight"]
    transfer.remove_lora(model)
    assert repr(model) == repr(base)
    old = hashes(base)
    assert {name: value for name, value in hashes(model).items() if "head" not in name} == {
        name: value for name, value in old.items() if "head" not in name}


def test_unmerge_refuses_what_was_changed_since_and_a_copy_can_be_unmerged():
    model = train(adapted())
    trained = answers(model)
    twin = copy.deepcopy(transfer.merge(model))
    assert answers(transfer.unmerge(twin)).tobytes() == trained.tobytes()
    assert not transfer.adapters(model)
    model.neck[0].weight.array[0, 0] += 1
    with pytest.raises(ValueError, match="'neck.0' is not what merge"):
        transfer.unmerge(model)
    transfer.forget_merged(model)
    with pytest.raises(ValueError, match=r"unmerge: merge\(\) was not called"):
        transfer.unmerge(model)
    with pytest.raises(ValueError, match="merge: this Sequential has no adapters"):
        transfer.merge(model)
    with pytest.raises(ValueError, match="remove_lora: this Sequential has no adapters"):
        transfer.remove_lora(model)


def test_modes_and_freezing_while_merged_hold_after_unmerging():
    model = transfer.merge(adapted(dropout=0.2, exclude="attends").train())
    transfer.unfreeze(model.eval(), "neck")
    transfer.unmerge(model)
    assert not any(module._mode for module in model.modules())
    assert model.neck[0].weight.requires_grad and not model.neck[0].frozen
    model.train()
    assert model.neck[0].lora_dropout.training


def test_an_untrained_head_gets_no_adapter_and_is_trained_and_a_trained_one_is_frozen():
    model = transfer.lora(transfer.rehead(network(), 4), rank=2)
    assert type(model.head) is nn.Linear and model.head.weight.requires_grad and not model.head.frozen
    assert "head" not in transfer.adapters(model)
    model = transfer.lora(network(), "neck", rank=2)
    assert not model.head.weight.requires_grad
    assert transfer.trainable(model) == 2 * (8 + 6)
    model = transfer.lora(network(), rank=2, also=["head", "*.bias"])
    assert "head" not in transfer.adapters(model) and len(transfer.adapters(model)) == 8
    assert model.head.weight.requires_grad and model.neck[0].bias.requires_grad
    with pytest.raises(ValueError, match="'head' is trained in full, as it is untrained or in also="):
        transfer.lora(transfer.rehead(network(), 4), "head")


def test_dropout_is_of_the_input_in_training_alone():
    model = transfer.lora(nn.Sequential(nn.Linear(6, 4)), rank=2, dropout=0.5, generator=np.random.default_rng(0))
    layer = model[0]
    layer.lora_B.weight.array[...] = 1
    x = Tensor(np.ones((3, 6), np.float32))
    quiet = model.eval()(x).numpy()
    assert (model.train()(x).numpy() != quiet).any() and (model.eval()(x).numpy() == quiet).all()


def test_wrong_calls_are_refused_and_change_nothing():
    model = network()
    before = (hashes(model), repr(model), transfer.frozen(model))
    tied = network()
    tied.neck[0] = nn.Linear(6, 6)
    tied.tail = nn.Linear(6, 6)
    tied.tail.weight = tied.neck[0].weight
    deep = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.LSTM(4, 4))
    apart = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2, kdim=4)})
    for network_, patterns, options, error in [
        (model, ["nekc"], {}, "lora: the pattern 'nekc' matches nothing; did you mean 'neck'"),
        (model, ["neck"], {"also": "haed"}, "lora: also: the pattern 'haed' matches nothing; did you mean 'head'"),
        (model, ["neck"], {"exclude": "x?"}, r"lora: exclude: the pattern 'x\?' matches nothing"),
        (model, ["neck"], {"rank": 0}, "'neck.0' .*rank must be a whole number from 1, not 0"),
        (model, ["neck"], {"rank": True}, "not True"),
        (model, ["body", "neck"], {"rank": 7}, r"'neck.0' \(Linear\): rank 7 is more than its weight \(6, 8\) .*, 6;"),
        (model, ["neck"], {"alpha": np.nan}, "alpha must be a finite number"),
        (model, ["neck"], {"dropout": 1.0}, "dropout is a probability"),
        (model, ["attends"], {"rank": 2, "dropout": 0.1}, "'attends.attention' .*dropout is not possible"),
        (model, ["body.1"], {}, "no layer to adapt: the layers with weights there are BatchNorm2d"),
        (model, ["neck"], {"exclude": "neck.0"}, "no layer to adapt"),
        (deep, ["0"], {"rank": 1}, "'0' .*its 4 groups see different channels"),
        (deep, ["1"], {"rank": 1}, "no layer to adapt: the layers with weights there are LSTM"),
        (apart, [], {"rank": 2, "exclude": "*.out_proj"}, "its projections are kept apart"),
        (tied, ["neck"], {"rank": 2}, "its weight is tied, 'neck.0.weight' and 'tail.weight' are one tensor"),
    ]:
        with pytest.raises(ValueError, match=error):
            transfer.lora(network_, *patterns, **options)
    assert (hashes(model), repr(model), transfer.frozen(model)) == before
    with pytest.raises(TypeError, match="give patterns one by one, not a list"):
        transfer.lora(model, ["neck"])
    with pytest.raises(TypeError, match="nothing but this Linear"):
        transfer.lora(nn.Linear(9, 9))
    transfer.lora(model, "neck", rank=2)
    with pytest.raises(ValueError, match="'neck.0' has an adapter already; first merge"):
        transfer.lora(model, "body", rank=2)
    with pytest.raises(TypeError, match=r"rehead: .*merge\(model\)"):
        transfer.rehead(transfer.lora(network(), "head", rank=2), 5)


def test_a_layer_that_is_used_twice_has_one_adapter():
    layer = nn.Linear(6, 6)
    model = transfer.lora(nn.Sequential({"a": layer, "act": nn.Tanh(), "b": layer}), rank=2)
    assert model.a is model.b and len(transfer.adapters(model)) == 1
    assert transfer.merge(model).a is model.b


@pytest.mark.parametrize("double", [False, True])
def test_the_whole_model_is_saved_and_loaded_with_its_adapters_and_after_merging(tmp_path, double):
    model = adapted(dropout=0.25, exclude="attends.*") if not double else adapted().double()
    if not double:
        train(model)
    x = Tensor(X.astype(np.float64 if double else np.float32))
    expected = model.eval()(x).numpy()
    transfer.save(model, tmp_path / "adapted.safetensors")
    twin = transfer.load(tmp_path / "adapted.safetensors")
    assert repr(twin) == repr(model) and hashes(twin) == hashes(model)
    assert twin.eval()(x).numpy().tobytes() == expected.tobytes()
    merged = transfer.merge(twin)(x).numpy()
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-5)
    transfer.save(twin, tmp_path / "merged.safetensors")
    plain = transfer.load(tmp_path / "merged.safetensors")
    assert repr(plain) == repr(network()) and plain.eval()(x).numpy().tobytes() == merged.tobytes()


def test_adapters_alone_are_saved_with_the_head_and_put_on_the_same_base(tmp_path):
    path = tmp_path / "adapters.safetensors"
    model = train(transfer.lora(transfer.rehead(network(), 4), "attends", "body", rank=2, alpha=3, exclude="*.linear?"))
    transfer.save_lora(model, path)
    names = set(transfer.load_tensors(path))
    assert names == {name for name in model.state_dict() if "lora_" in name} | {"head.weight", "head.bias"}
    twin = transfer.load_lora(path, transfer.rehead(network(), 4))
    assert answers(twin).tobytes() == answers(model).tobytes() and repr(twin) == repr(model)
    assert not transfer.untrained(twin)
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]

    other = transfer.rehead(network(), 4)
    other.body[0].weight.array[0, 0, 0, 0] = np.nextafter(other.body[0].weight.array[0, 0, 0, 0], np.float32(9))
    before = hashes(other)
    with pytest.raises(transfer.LoadError, match="another base: 1 of .* 'body.0.weight'"):
        transfer.load_lora(path, other)
    assert hashes(other) == before and not transfer.adapters(other) and transfer.frozen(other) == 0
    with pytest.raises(transfer.LoadError, match=r"'head.weight' is float32 \(4, 6\) in the file.*rehead"):
        transfer.load_lora(path, network())
    with pytest.raises(transfer.LoadError, match="adapter of 'body.0': the model has no such layer"):
        transfer.load_lora(path, nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="has adapters already"):
        transfer.load_lora(path, model)
    with pytest.raises(ValueError, match=r"save_lora: .* no adapters; unmerge\(model\) first"):
        transfer.save_lora(transfer.merge(model), path)
    moved = nn.Sequential({"whole": transfer.rehead(network(), 4)})
    renamed = transfer.load_lora(path, moved, rename={"": "whole"})
    assert set(transfer.adapters(renamed)) == {f"whole.{place}" for place in transfer.adapters(twin)}


@pytest.mark.parametrize("change", [
    {"layers": {}}, {"layers": {"neck.0": [2, 16.0]}}, {"layers": {"neck.0": [-1, 16.0, 0.0]}}, {"base": []},
    {"base": {"head.weight": 3}}, {"untrained": "head"}, {"more": 1},
])
def test_a_damaged_description_is_refused(tmp_path, change):
    model = transfer.lora(network(), "neck", rank=2)
    transfer.save_lora(model, tmp_path / "good.safetensors")
    text = transfer.load_metadata(tmp_path / "good.safetensors")["minidl.lora"]
    fields = {**json.loads(text), **change}
    transfer.save_tensors(transfer.load_tensors(tmp_path / "good.safetensors"), tmp_path / "bad.safetensors",
                          {"minidl.lora": json.dumps(fields)})
    with pytest.raises(FileFormatError):
        transfer.load_lora(tmp_path / "bad.safetensors", network())


def test_huge_ranks_and_missing_matrices_of_a_file_are_refused_before_memory_is_taken(tmp_path):
    model = transfer.lora(network(), "neck", rank=2)
    transfer.save_lora(model, tmp_path / "good.safetensors")
    fields = json.loads(transfer.load_metadata(tmp_path / "good.safetensors")["minidl.lora"])
    tensors = transfer.load_tensors(tmp_path / "good.safetensors")
    for rank, kept in [(2**40, list(tensors)), (2, ["neck.0.lora_A.weight"])]:
        fields["layers"]["neck.0"][0] = rank
        transfer.save_tensors({name: tensors[name] for name in kept}, tmp_path / "bad.safetensors",
                              {"minidl.lora": json.dumps(fields)})
        plain = network()
        with pytest.raises(transfer.LoadError, match="'neck.0.lora_B.weight'"):
            transfer.load_lora(tmp_path / "bad.safetensors", plain)
        assert not transfer.adapters(plain) and transfer.frozen(plain) == 0


def test_the_layout_of_peft_is_read(tmp_path):
    """Names and shapes as peft writes them: a prefix, wrapped attention under base_layer, the head in full."""
    model = train(adapted(exclude=["attends.layer", "body"]))
    tensors = {}
    for name, value in model.state_dict().items():
        if "lora_" in name or name.startswith("head."):
            name = name.replace("attention.out_proj", "attention.base_layer.out_proj")
            tensors[f"base_model.model.{name}"] = value
    transfer.save_tensors(tensors, tmp_path / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(transfer.LoadError, match="adapter_config.json, which is not beside the file; give alpha="):
        transfer.load_lora(tmp_path, network())
    twin = transfer.load_lora(tmp_path, network(), alpha=16)
    assert answers(twin).tobytes() == answers(model).tobytes()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "use_rslora": False, "rank_pattern": {}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    twin = transfer.load_lora(tmp_path / "adapter_model.safetensors", network())
    assert answers(twin).tobytes() == answers(model).tobytes()
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": True}))
    with pytest.raises(transfer.LoadError, match="adapters with use_rslora compute something else"):
        transfer.load_lora(tmp_path, network())
    transfer.save_tensors({"a.weight": X}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(FileFormatError, match="no adapters: neither a file of save_lora nor of peft's"):
        transfer.load_lora(tmp_path, network())


def test_a_bert_takes_adapters_on_its_attention_and_comes_back_from_a_file(tmp_path):
    """It lies many modules deep: each is made once, or there would be too little memory for what the file says."""
    minidl.seed(1)
    bert = BertModel(vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
                     max_position_embeddings=6)
    ids = np.random.default_rng(0).integers(1, 20, (3, 5))
    before = bert.eval()(ids).pooler_output.numpy()
    transfer.lora(bert, "*.self.query", "*.self.value", rank=2)
    assert transfer.trainable(bert) == 2 * 2 * 2 * (32 + 32)
    assert bert(ids).pooler_output.numpy().tobytes() == before.tobytes()
    optimizer = optim.SGD(bert.parameters(), lr=1.0)
    F.mse_loss(bert(ids).pooler_output, Tensor(np.ones((3, 32), np.float32))).backward()
    optimizer.step()
    after = bert(ids).pooler_output.numpy()
    assert (after != before).any()
    transfer.save(bert, tmp_path / "bert.safetensors")
    twin = transfer.load(tmp_path / "bert.safetensors").eval()
    assert repr(twin) == repr(bert) and twin(ids).pooler_output.numpy().tobytes() == after.tobytes()
    np.testing.assert_allclose(transfer.merge(bert)(ids).pooler_output.numpy(), after, rtol=1e-5, atol=1e-6)
