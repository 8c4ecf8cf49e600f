"""Every verb that gives a model other values leaves a row a tensor in its ledger: Keras, LoRA and averages."""

from pathlib import Path

import numpy as np
from transfer_networks import trained

from minidl import nn, transfer

GOLDEN = np.load(Path(__file__).with_name("golden") / "keras_files.npz")


def adapted():
    model = trained()
    transfer.lora(model, "body", rank=2, also="head", generator=np.random.default_rng(0))
    for adapter in transfer.adapters(model).values():
        adapter.lora_B.weight.array[...] = 0.5
    transfer.ledger(model).record("set")
    return model


def last(model):
    event = transfer.ledger(model).events[-1]
    return event, {row.name: row for row in event.rows}


def test_a_file_of_keras_is_named_with_what_became_of_each_tensor(tmp_path):
    GOLDEN["hostile/good"].tofile(tmp_path / "good.h5")
    model = nn.Sequential({"dense": nn.Linear(2, 3, bias=False)})
    transfer.load(tmp_path / "good.h5", model)
    event, rows = last(model)
    assert (event.kind, event.detail) == ("load", str(tmp_path / "good.h5"))
    assert rows["dense.weight"].status == "loaded" and rows["dense.weight"].before != rows["dense.weight"].after
    assert "good.h5" in str(transfer.ledger(model))


def test_merge_and_unmerge_change_frozen_weights_on_purpose():
    model = adapted()
    first = last(model)[1]["body.0.weight"].after
    transfer.merge(model)
    event, rows = last(model)
    assert (event.kind, event.detail) == ("merge", "1 adapters")
    assert rows["body.0.weight"].status == "changed" and rows["body.0.weight"].before == first
    assert rows["body.0.weight"].reason == "W + (alpha / rank) B A" and rows["body.0.bias"].status == "frozen"
    assert transfer.ledger(model).verify()
    transfer.unmerge(model)
    event, rows = last(model)
    assert event.kind == "unmerge" and rows["body.0.weight"].after == first and transfer.ledger(model).verify()


def test_a_frozen_weight_that_merge_did_not_touch_is_still_watched():
    model = adapted()
    model.body[0].bias.array += 1
    transfer.merge(model)
    assert last(model)[1]["body.0.bias"].status == "changed while frozen"
    assert not transfer.ledger(model).verify()


def test_adapters_from_a_file_are_rows_of_a_load(tmp_path):
    transfer.save_lora(adapted(), tmp_path / "a.safetensors")
    model = transfer.load_lora(tmp_path / "a.safetensors", trained())
    event = next(event for event in transfer.ledger(model).events if event.kind == "load_lora")
    rows = {row.name: row for row in event.rows}
    assert event.detail == str(tmp_path / "a.safetensors")
    assert rows["body.0.lora_A.weight"].status == "loaded" == rows["head.weight"].status
    assert rows["body.0.lora_A.weight"].file_shape == (2, 6) and rows["body.0.weight"].status == "kept"
    assert transfer.ledger(model).verify()


def test_an_average_says_of_how_many_and_leaves_the_sources_ledgers_alone():
    one, other = trained(), trained()
    other.head.weight.array += 2
    transfer.freeze(one, "head")
    model = transfer.average([one, other], weights=[1, 3])
    event, rows = last(model)
    assert (event.kind, event.detail) == ("average", "of 2, weights 0.25, 0.75")
    assert rows["head.weight"].status == "changed" and rows["head.bias"].status == "frozen"
    assert transfer.ledger(model).verify() and [event.kind for event in transfer.ledger(one).events] == ["freeze"]
