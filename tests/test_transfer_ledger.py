"""Promise 8 of the transfer module: the ledger says what happened to every tensor, and proves what did not move."""

import copy
import hashlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_networks import X, bits, network, snapshot, trained

from minidl import nn, optim, transfer
from minidl.errors import FileFormatError
from minidl.models import bert_from_pretrained, create_model
from minidl.train import Trainer
from minidl.transfer import FrozenChanged, Ledger, ledger
from minidl.transfer.ledger import rows as ledger_rows

Y = np.array([0, 1, 2, 0, 1])


def deep_network():
    """With everything that could move although it is frozen: BatchNorm's statistics and dropout."""
    return nn.Sequential({
        "body": nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8)),
        "head": nn.Linear(8, 3),
    })


def fit(model, optimizer=None, epochs=2):
    optimizer = optimizer or optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    Trainer(model, nn.CrossEntropyLoss(), optimizer).fit((X.numpy(), Y), epochs=epochs, batch_size=3, progress=False)
    return model


def statuses(model):
    return {name: row.status for name, row in ledger(model).latest().items()}


def kinds(model):
    return [event.kind for event in ledger(model).events]


def test_promise_8_every_verb_writes_a_row_for_every_tensor(tmp_path):
    path = tmp_path / "model.safetensors"
    transfer.save(trained(classes=5), path)
    model = transfer.load(path)
    transfer.freeze(transfer.rehead(model, 3), "body")
    fit(model)
    transfer.unfreeze(model)
    book = ledger(model)
    assert kinds(model) == ["load", "rehead", "freeze", "training", "unfreeze"]
    names = {*model.state_dict()}
    assert all({row.name for row in event.rows} == names for event in book.events)
    assert str(path) in book.events[0].detail and book.events[1].detail == "head: 5 to 3 classes"
    assert book.events[2].detail == "body" and "SGD" in book.events[3].detail
    story = [row.status for _, row in book.history("head.weight")]
    assert story == ["loaded", "re-initialised", "kept", "trained", "kept"]
    story = [row.status for _, row in book.history("body.1.running_mean")]
    assert story == ["loaded", "kept", "frozen", "frozen", "unfrozen"]
    assert book.history("head.weight")[1][1].reason == "kaiming_uniform_(a=5**0.5)"


def test_promise_8_hashes_are_those_of_the_bytes_before_and_after(tmp_path):
    path = tmp_path / "model.safetensors"
    transfer.save(trained(), path)
    model = network()
    before = bits(model)
    transfer.load(path, model)
    after = bits(model)
    rows = ledger(model).latest()
    assert after.keys() == rows.keys()
    for name, row in rows.items():
        assert row.before == hashlib.sha256(before[name]).hexdigest()
        assert row.after == hashlib.sha256(after[name]).hexdigest()
        assert row.file_shape == row.shape == model.state_dict()[name].shape
        assert row.dtype == str(model.state_dict()[name].dtype)
    transfer.rehead(model, 5)
    row = ledger(model).latest()["head.weight"]
    assert row.before == hashlib.sha256(after["head.weight"]).hexdigest()
    assert row.after == hashlib.sha256(bits(model)["head.weight"]).hexdigest() and row.shape == (5, 8)


def test_promise_8_after_training_verify_says_in_numbers_that_nothing_frozen_moved():
    model = transfer.freeze(deep_network(), "body")
    frozen = {name: value for name, value in bits(model).items() if name.startswith("body")}
    fit(model)
    assert {name: value for name, value in bits(model).items() if name.startswith("body")} == frozen
    found = ledger(model).verify(strict=True)
    assert found and found.ok and found.bytes_changed == 0
    parameters, buffers = 6 * 8 + 8 + 8 + 8 + 8 * 8 + 8, 8 + 8 + 1
    assert (found.parameters, found.buffers, found.tensors, found.trainable) == (parameters, buffers, 9, 27)
    assert found.nbytes == 4 * (parameters + 16) + 8
    assert str(found).startswith("144 parameters and 17 numbers in buffers frozen, 0 bytes changed (9 tensors of 648 ")
    assert {name for name, status in statuses(model).items() if status == "trained"} == {"head.weight", "head.bias"}
    assert {status for name, status in statuses(model).items() if name.startswith("body")} == {"frozen"}


@pytest.mark.parametrize("name", ["body.0.weight", "body.1.running_var", "body.1.num_batches_tracked"])
def test_promise_8_a_frozen_tensor_that_someone_wrote_into_is_named(name):
    model = transfer.freeze(deep_network(), "body")
    array = model.state_dict()[name].array
    fit(model)
    array.reshape(-1).view(np.uint8)[-1] ^= 1  # one bit
    found = ledger(model).verify()
    assert not found and [change.name for change in found.changed] == [name]
    assert found.bytes_changed == array.nbytes and found.changed[0].event == 1
    text = f"1 of 9 tensors changed, {array.nbytes:,} bytes"
    assert text in str(found) and f"{name}: changed ({array.nbytes:,} bytes) since event 1 (freeze)" in str(found)
    with pytest.raises(FrozenChanged, match="1 of 9 tensors changed") as caught:
        ledger(model).verify(strict=True)
    assert caught.value.verification == found
    fit(model)
    assert statuses(model)[name] == "changed while frozen"
    row = ledger(model).latest()[name]
    assert "since event 1" in row.reason and "by something the ledger did not see, while frozen" in row.reason
    transfer.freeze(model, "body")  # freezing once more does not make it forgotten
    assert [change.event for change in ledger(model).verify().changed] == [1]


def test_promise_8_a_change_during_training_is_found_by_the_training_itself():
    model = transfer.freeze(deep_network(), "body")
    with ledger(model).training():
        model.body[0].weight.array[0, 0] += 1
    assert statuses(model)["body.0.weight"] == "changed while frozen"


def test_a_replaced_or_converted_frozen_tensor_is_found():
    model = transfer.freeze(deep_network(), "body")
    model.body[0].bias = None
    model.body[3].weight = nn.Parameter(np.zeros((2, 2), np.float32))
    model.body[1].running_mean.array = model.body[1].running_mean.array.astype(np.float64)
    text = str(ledger(model).verify())
    assert "body.0.bias: no longer in the model" in text
    assert "body.3.weight: its shape was (8, 8), is (2, 2)" in text
    assert "body.1.running_mean: its dtype was float32, is float64" in text


def test_batchnorm_that_follows_the_data_is_not_claimed_to_stand_still():
    model = transfer.freeze(deep_network(), "body", batchnorm="train")
    fit(model)
    assert statuses(model)["body.1.running_mean"] == "updated" and statuses(model)["body.1.weight"] == "frozen"
    found = ledger(model).verify(strict=True)
    assert (found.parameters, found.buffers) == (144, 0)
    assert ledger(model).latest()["body.1.weight"].batchnorm == "train"
    model = transfer.freeze(model, "body")
    assert ledger(model).latest()["body.1.weight"].batchnorm == "eval"
    assert ledger(model).verify(strict=True).buffers == 17


def test_unfreezing_ends_the_claim_and_freezing_again_begins_a_new_one():
    model = transfer.freeze(deep_network())
    transfer.unfreeze(model, "body.3", "head")
    assert statuses(model)["body.3.weight"] == "unfrozen" and statuses(model)["body.0.weight"] == "frozen"
    fit(model)
    assert statuses(model)["body.3.weight"] == "trained"
    transfer.freeze(model, "body.3")
    assert ledger(model).verify(strict=True).events == (1, 4)
    assert ledger(model).verify().parameters == 144


def test_freezing_in_the_midst_of_a_training_counts_from_there():
    model = deep_network()
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    with ledger(model).training(optimizer):
        nn.CrossEntropyLoss()(model(X), Y).backward()
        optimizer.step()
        transfer.freeze(model, "body")
    assert kinds(model) == ["begin", "training", "freeze"]
    rows = {row.name: row for row in ledger(model).events[1].rows}
    assert rows["body.0.weight"].status == "trained" and rows["body.0.weight"].before != rows["body.0.weight"].after
    assert ledger(model).verify(strict=True).events == (3,)


def test_what_was_frozen_by_hand_counts_from_the_next_event():
    model = network()
    model.body.requires_grad_(False)
    ledger(model)
    fit(model)
    assert kinds(model) == ["begin", "training"]
    assert statuses(model)["body.0.weight"] == "frozen"
    assert statuses(model)["body.1.running_mean"] == "updated"  # requires_grad_ alone does not hold the statistics
    assert ledger(model).verify(strict=True).events == (1,)
    model.body[0].weight.requires_grad = True
    model.body[0].weight.array += 1
    assert "changed, and no longer frozen, though no unfreeze was written" in str(ledger(model).verify())


def test_trained_rows_tell_the_learning_rate_and_why_something_stood_still():
    model = deep_network()
    groups = [{"params": [model.head.weight], "lr": 0.5}, {"params": [model.head.bias], "lr": 0.0}]
    optimizer = optim.SGD(groups, lr=0.1)
    with ledger(model).training(optimizer, "by hand"):
        nn.CrossEntropyLoss()(model(X), Y).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.25
    rows = ledger(model).latest()
    assert (rows["head.weight"].status, rows["head.weight"].lr) == ("trained", (0.5, 0.25))
    assert (rows["head.bias"].status, rows["head.bias"].reason) == ("unchanged", "its learning rate is 0")
    assert (rows["body.0.weight"].status, rows["body.0.weight"].reason) == ("unchanged", "not in the optimiser")
    assert ledger(model).events[-1].detail == "by hand"


def test_an_error_ends_a_training_without_hiding_it():
    model = transfer.freeze(deep_network(), "body")
    with pytest.raises(ZeroDivisionError), ledger(model).training():
        model.head.weight.array += 1
        raise ZeroDivisionError
    assert ledger(model).events[-1].detail == "ended by ZeroDivisionError"
    assert statuses(model)["head.weight"] == "trained"
    bad = np.full_like(X.numpy(), np.nan)
    with pytest.raises(FloatingPointError):
        Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.named_parameters(), lr=1)).fit((bad, Y), progress=False)
    assert ledger(model).events[-1].detail.endswith("ended by FloatingPointError")


def test_a_load_tells_why_each_tensor_came_or_did_not(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {f"net.{name}": value.numpy() for name, value in trained(classes=5).state_dict().items()}
    transfer.save_tensors({**tensors, "step": np.zeros(1)}, path)
    model = network()
    transfer.load(path, model, rename={"net": ""},
                  allow={"head.*": "reinit", "step": "skip", "*.num_batches_tracked": "skip"})
    rows = {row.name: row for row in ledger(model).events[0].rows}
    assert (rows["body.0.weight"].status, rows["body.0.weight"].reason) == \
        ("loaded", "as 'net.body.0.weight' in the file")
    assert rows["head.weight"].status == "re-initialised" and rows["head.weight"].file_shape == (5, 8)
    assert rows["head.weight"].reason == "allow 'head.*': 'reinit': the values that the model had"
    assert (rows["body.1.num_batches_tracked"].status, rows["body.1.num_batches_tracked"].reason) == \
        ("skipped", "allow '*.num_batches_tracked': 'skip'")
    assert (rows["step"].kind, rows["step"].status, rows["step"].reason) == ("file", "skipped", "allow 'step': 'skip'")
    assert "step" not in ledger(model).latest()
    transfer.save(trained(), path)
    assert ledger(transfer.load(path, allow={"head.*": "reinit"})).latest()["head.weight"].reason == \
        "allow 'head.*': 'reinit': as Linear draws it"


def test_loading_into_a_frozen_model_is_no_breach(tmp_path):
    path = tmp_path / "model.safetensors"
    transfer.save(trained(), path)
    model = transfer.load(path, transfer.freeze(network()))
    assert ledger(model).verify(strict=True).events == (2,)


def test_a_failed_load_writes_nothing(tmp_path):
    path = tmp_path / "model.safetensors"
    transfer.save(trained(classes=5), path)
    model = network()
    before = snapshot(model)
    with pytest.raises(transfer.LoadError):
        transfer.load(path, model)
    assert snapshot(model) == before
    transfer.freeze(model)
    with pytest.raises(transfer.LoadError):
        transfer.load(path, model)
    assert kinds(model) == ["freeze"]


def test_ties_are_counted_once_and_named():
    model = nn.Sequential({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    model.b.weight = model.a.weight
    transfer.freeze(model)
    row = ledger(model).latest()["b.weight"]
    assert (row.status, row.reason) == ("tied", "to a.weight")
    found = ledger(model).verify()
    assert (found.parameters, found.tensors) == (16, 1)
    model.a.weight.array[0, 0] += 1
    assert len(ledger(model).verify().changed) == 1


def test_create_model_begins_the_ledger_with_the_file(tmp_path):
    path = tmp_path / "lenet.safetensors"
    transfer.save_tensors(create_model("lenet5").state_dict(), path)
    model = create_model("lenet5", num_classes=3, pretrained=path)
    assert kinds(model) == ["create_model", "rehead"] and str(path) in ledger(model).events[0].detail


def test_a_bert_begins_its_ledger_with_the_folder():
    folder = Path(__file__).parent / "golden" / "tiny_bert"
    model = bert_from_pretrained(folder, pooler=False)
    assert kinds(model) == ["bert_from_pretrained"] and str(folder) in ledger(model).events[0].detail
    assert set(statuses(model).values()) == {"loaded"}
    assert ledger(model).latest()["embeddings.word_embeddings.weight"].file_shape == \
        model.embeddings.word_embeddings.weight.shape


def test_something_the_ledger_did_not_see_is_noticed_and_can_be_written_down():
    model = network()
    ledger(model)
    model.load_state_dict(trained().state_dict())
    transfer.freeze(model, "body")
    assert ledger(model).latest()["head.weight"].reason == "changed since event 1 by something the ledger did not see"
    model.load_state_dict(network().state_dict())
    ledger(model).record("load_state_dict", "the average of three runs")
    assert kinds(model)[-1] == "load_state_dict"
    assert statuses(model)["head.weight"] == "changed" and statuses(model)["body.0.weight"] == "changed while frozen"
    assert not ledger(model).verify()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_goes_on_in_a_ledger_of_its_own(duplicate):
    model = transfer.freeze(deep_network(), "body")
    twin = duplicate(model)
    assert kinds(twin) == ["freeze"] and ledger(twin) is not ledger(model)
    assert ledger(twin).verify(strict=True).parameters == 144
    transfer.rehead(twin, 7)
    assert kinds(twin) == ["freeze", "rehead"] and kinds(model) == ["freeze"]


def test_a_twin_without_the_head_says_nothing_about_the_head():
    model = transfer.freeze(deep_network())
    assert ledger(transfer.headless(model)).verify(strict=True).parameters == 144
    assert ledger(transfer.features(model, at="body")).verify().parameters == 171


def test_a_network_round_a_pretrained_one_tells_where_its_part_comes_from(tmp_path):
    path = tmp_path / "body.safetensors"
    transfer.save(trained(), path)
    body = transfer.freeze(transfer.load(path), "body")
    model = nn.Sequential({"encoder": body, "top": nn.Linear(3, 2)})
    rows = ledger(model).latest()
    assert rows["encoder.body.0.weight"].reason == "in the ledger of 'encoder': loaded, frozen"
    assert (rows["encoder.body.0.weight"].status, rows["top.weight"].reason) == ("frozen", "")
    transfer.rehead(model, 4)
    assert [row.reason for row in ledger(model).latest().values() if "ledger of" in row.reason] == []


def test_it_changes_nothing_about_the_model(tmp_path):
    model, plain = transfer.freeze(network(), "body"), network()
    ledger(model).record("note")
    assert model.state_dict().keys() == plain.state_dict().keys() and model.config() == plain.config()
    assert transfer.structure(model) == transfer.structure(plain) and repr(model) == repr(plain)
    assert [*model.named_modules()][1][0] == "body" and transfer.structure(model) == transfer.structure(plain)
    transfer.save(model, tmp_path / "a.safetensors", provenance="x")
    assert b"sha256" not in (tmp_path / "a.safetensors").read_bytes()


def test_odd_tensors_are_hashed_by_their_values():
    model = nn.Sequential(nn.Linear(3, 4))
    model[0].weight.array = np.arange(12, dtype=np.float32).reshape(3, 4).T  # not in C order
    model.register_buffer("empty", nn.Parameter(np.zeros((0, 3), np.float16)).detach())
    model.register_buffer("flag", nn.Parameter(np.ones((), np.float64)).detach())
    rows = ledger(model).latest()
    assert rows["0.weight"].after == hashlib.sha256(np.ascontiguousarray(model[0].weight.array).tobytes()).hexdigest()
    assert rows["empty"].after == hashlib.sha256(b"").hexdigest()
    assert rows["flag"].after == hashlib.sha256(np.float64(1).tobytes()).hexdigest()
    transfer.freeze(model)
    model[0].weight.array = np.ascontiguousarray(model[0].weight.array)
    assert ledger(model).verify()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["freeze", "unfreeze"]), st.sampled_from(["body.0", "body.1", "head", "*"]),
                          st.booleans()), max_size=6))
def test_whatever_the_order_of_verbs_frozen_tensors_stand_still(steps):
    model = deep_network()
    for verb, pattern, trains in steps:
        getattr(transfer, verb)(model, pattern)
        if trains and transfer.trainable(model):
            fit(model, epochs=1)
        held = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        found = ledger(model).verify(strict=True)
        assert (found.parameters, found.trainable) == (held, transfer.trainable(model))
    assert not {"changed while frozen"} & {row.status for event in ledger(model).events for row in event.rows}


def test_old_events_are_given_up_for_memory_and_the_claims_are_kept(monkeypatch):
    monkeypatch.setattr(sys.modules["minidl.transfer.ledger.ledger"], "MOST_ROWS", 40)
    model = transfer.freeze(deep_network(), "body")
    for _ in range(8):
        fit(model, epochs=1)
    book = ledger(model)
    assert len(book.events) == 3 and book.dropped == 6 and book.events[0].kind == "freeze"
    assert book.events[-1].number == 9 and "6 events no longer kept" in str(book)
    assert book.verify(strict=True).events == (1,)


def test_equal_rows_are_kept_once():
    model = transfer.freeze(deep_network(), "body")
    fit(model)
    fit(model)
    first, second = ({row.name: row for row in event.rows} for event in ledger(model).events[-2:])
    assert first["body.0.weight"] == second["body.0.weight"] and first["body.0.weight"] is second["body.0.weight"]


def test_it_prints_as_a_table_that_can_be_read():
    model = create_model("resnet20")
    transfer.freeze(model)
    transfer.unfreeze(model, "linear")
    lines = str(ledger(model)).splitlines()
    assert lines[0] == "Ledger of CifarResNet: 116 tensors, 2 events"
    assert len(lines) < 16 and max(map(len, lines)) <= 120
    assert next(line for line in lines if line.startswith("layer3 ")).split()[1:] == \
        ["36", "204,294", "frozen", "no", "eval", "the", "same"]
    assert next(line for line in lines if line.startswith("linear ")).split()[1:] == \
        ["2", "650", "frozen,", "unfrozen", "yes", "the", "same"]
    assert len(ledger(model).table().splitlines()) == 116 + 2
    assert "layer1.0.bn1.running_mean" in ledger(model).table()
    assert str(Ledger()) == "Ledger of no model: no events"


def test_saving_and_loading_gives_the_same_ledger(tmp_path):
    path = tmp_path / "ledger.json"
    model = transfer.freeze(deep_network(), "body")
    fit(model)
    book = ledger(model)
    book.save(path)
    twin = Ledger.load(path)
    assert twin.events == book.events and twin.references == book.references
    assert str(twin) == str(book) and twin.table() == book.table()
    assert not book.diff(twin)
    assert twin.verify(model) == book.verify()
    model.body[0].weight.array[0, 0] += 1
    assert [change.name for change in twin.verify(model).changed] == ["body.0.weight"]
    with pytest.raises(ValueError, match=r"belongs to no model here.*ledger.verify\(model\)"):
        twin.verify()


def test_a_path_that_is_no_text_and_an_attribute_of_ones_own_do_no_harm(tmp_path):
    model = network()
    model._ledger = model.ledger = {"mine": 1}
    ledger(model).record("note", "caf\udce9")
    ledger(model).save(tmp_path / "ledger.json")
    assert Ledger.load(tmp_path / "ledger.json").events[-1].detail == "caf\\udce9"
    assert model._ledger == model.ledger == {"mine": 1}


def test_diff_names_what_differs_between_two_ledgers():
    first, second = (transfer.freeze(trained(), "body") for _ in range(2))
    fit(second)
    second.body[0].bias.array += 1
    ledger(second).record("note")
    second.extra = nn.Linear(2, 2)
    ledger(second).record("note")
    found = ledger(first).diff(ledger(second))
    assert found and found.only_first == [] and found.only_second == ["extra.weight", "extra.bias"]
    assert found.changed.keys() == {"head.weight", "head.bias", "body.0.bias"}
    assert found.changed["head.weight"].keys() == {"status", "sha256"}
    assert (found.same, found.same_bytes) == (6, 6)
    assert "6 of 9 tensors alike, 6 with the same bytes" in str(found)
    assert "only in the second: extra.weight" in str(found)
    other = network(classes=4)
    assert ledger(network()).diff(ledger(other)).changed["head.bias"]["shape"] == ((3,), (4,))


def damaged(change):
    model = transfer.freeze(network(), "head")
    content = json.loads(json.dumps({
        "format": "minidl.ledger 1", "model": "Sequential", "dropped": 0,
        "events": [{**event._asdict(), "rows": [row._asdict() for row in event.rows]} for event in
                   ledger(model).events],
        "frozen": {name: reference._asdict() for name, reference in ledger(model).references.items()}}))
    change(content)
    return json.dumps(content)


HOSTILE = {
    "no JSON": lambda path: path.write_text("ledger"),
    "another object": lambda path: path.write_text("{}"),
    "a list": lambda path: path.write_text("[]"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00" * 50),
    "nested": lambda path: path.write_text("[" * 100_000),
    "truncated": lambda path: path.write_text(damaged(lambda c: None)[:-30]),
    "a name twice": lambda path: path.write_text('{"format": 1, "format": 2}'),
    "another version": lambda path: path.write_text(damaged(lambda c: c.update(format="minidl.ledger 9"))),
    "nan": lambda path: path.write_text(damaged(lambda c: c["events"][0]["rows"][0].update(lr=[float("nan"), 1]))),
    "lr": lambda path: path.write_text(damaged(lambda c: c["events"][0]["rows"][0].update(lr=["1", 1]))),
    "hash": lambda path: path.write_text(damaged(lambda c: c["events"][0]["rows"][0].update(after="ab"))),
    "no hash": lambda path: path.write_text(damaged(lambda c: c["frozen"]["head.bias"].update(sha256="0" * 63))),
    "shape": lambda path: path.write_text(damaged(lambda c: c["events"][0]["rows"][0].update(shape=[-1]))),
    "a huge shape": lambda path: path.write_text(damaged(lambda c: c["frozen"]["head.bias"].update(shape=[2**62] * 3))),
    "dtype": lambda path: path.write_text(damaged(lambda c: c["frozen"]["head.bias"].update(dtype="object"))),
    "a dtype of none": lambda path: path.write_text(damaged(lambda c: c["frozen"]["head.bias"].update(dtype="int7"))),
    "kind": lambda path: path.write_text(damaged(lambda c: c["events"][0]["rows"][0].update(kind="thing"))),
    "a row too many": lambda path: path.write_text(
        damaged(lambda c: c["events"][0]["rows"].append(c["events"][0]["rows"][0]))),
    "an unknown field": lambda path: path.write_text(damaged(lambda c: c["events"][0]["rows"][0].update(run="rm"))),
    "a missing field": lambda path: path.write_text(damaged(lambda c: c["events"][0].pop("kind"))),
    "numbers": lambda path: path.write_text(damaged(lambda c: c["events"][0].update(number=0))),
    "truth as number": lambda path: path.write_text(damaged(lambda c: c["events"][0].update(number=True))),
    "the same event twice": lambda path: path.write_text(damaged(lambda c: c["events"].append(c["events"][0]))),
    "rows of texts": lambda path: path.write_text(damaged(lambda c: c["events"][0].update(rows=["a"]))),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_or_hostile_ledger_is_refused(name, tmp_path):
    path = tmp_path / "ledger.json"
    HOSTILE[name](path)
    with pytest.raises(FileFormatError, match="ledger.json"):
        Ledger.load(path)


def test_each_tensor_is_hashed_once_a_verb(monkeypatch):
    hashed = []
    monkeypatch.setattr(ledger_rows, "sha256", lambda array: hashed.append(array) or "0" * 64)
    model = network()
    transfer.freeze(model, "body")
    assert len(hashed) == 9
    hashed.clear()
    transfer.rehead(model, 4)
    assert len(hashed) == 9 + 2  # all before, and what is new
    hashed.clear()
    ledger(model).verify()
    assert len(hashed) == 7  # what is frozen
