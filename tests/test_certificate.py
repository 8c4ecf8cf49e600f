"""Certificates: two runs of one seed are the same to the last bit, and where they are not, the first step is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trainers import network, samples, trainer_for

from minidl import FileFormatError, nn, random
from minidl.certify import EXAMPLE, certify, experiment, replay
from minidl.cli import main
from minidl.train import Callback, Certificate, Checkpoint, RunsDiffer, first_difference, read_certificate

ROOT = Path(__file__).resolve().parents[1]
RUN = {"data": "mnist", "embedded": True, "subset": 300, "model": "lenet5", "epochs": 2, "batch_size": 64, "seed": 4,
       "optimizer": {"name": "Adam", "lr": 0.002}, "augment": True, "prefetch": True, "weights_every": 3}


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    path = tmp_path_factory.mktemp("certificate") / "run.json"
    path.write_text(json.dumps(RUN))
    assert main(["certify", str(path)]) == 0
    return path


def test_the_file_keeps_its_description_and_gets_a_chain(certified):
    content = json.loads(certified.read_text())
    assert {name: content[name] for name in RUN} == RUN
    certificate = read_certificate(certified)
    assert len(certificate["steps"]) == 10 and certificate["steps"][5].startswith("epoch 2 step 1 data ")
    assert sum(" weights " in line for line in certificate["steps"]) == 3
    assert set(certificate["initial"]) == set(certificate["final"]) and "conv1.weight" in certificate["initial"]
    assert certificate["initial"] != certificate["final"]
    with pytest.raises(ValueError, match="has a certificate"):
        certify(certified)
    assert experiment(json.loads(EXAMPLE), "the example")["seed"] == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_replay_in_another_process_is_equal_on_any_number_of_threads(certified, threads):
    ended = subprocess.run([sys.executable, "-m", "minidl.cli", "replay", certified], cwd=ROOT, capture_output=True,
                           text=True, env={**os.environ, "MINIDL_THREADS": str(threads)})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("equal, bit for bit: 10 steps")


def changed(certified, tmp_path, **values):
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({**json.loads(certified.read_text()), **values}))
    return path


@pytest.mark.parametrize("values, text", [
    ({"seed": 5}, "the initial weights differ in conv1.weight, conv1.bias, conv2.weight, conv2.bias and 6 more"),
    ({"augment": False}, "step 1 (epoch 1, step 1): the data differ"),
    ({"optimizer": {"name": "Adam", "lr": 0.0020001}}, "step 2 (epoch 1, step 2): the loss differs: 0x"),
    ({"optimizer": {"name": "SGD", "lr": 0.002}}, "step 2 (epoch 1, step 2): the loss differs"),
    ({"epochs": 1}, "the runs have 10 and 5 steps, equal up to step 5"),
    ({"epochs": 3}, "the certificate ends after 10 steps, this run goes on"),
])
def test_the_first_difference_is_named(certified, tmp_path, capsys, values, text):
    assert main(["replay", str(changed(certified, tmp_path, **values))]) == 1
    printed = capsys.readouterr().out
    assert text in printed and "threads" in printed


class Disturb(Callback):
    """Changes the lowest bit of one weight after a step."""

    def __init__(self, step):
        self.left = step

    def on_batch_end(self, trainer, step, loss):
        self.left -= 1
        if self.left == 0:
            bits = trainer.model[2].bias.array.view(np.int64)
            bits[1] ^= 1


def run(path=None, callbacks=(), epochs=3, **options):
    certificate = Certificate(path, **options)
    trainer_for(network()).fit(samples(), epochs=epochs, batch_size=16, callbacks=[*callbacks, certificate],
                               progress=False)
    return certificate.content


def test_one_bit_of_one_weight_is_found(tmp_path):
    run(tmp_path / "one.json", weights_every=1)
    with pytest.raises(RunsDiffer) as caught:
        run(against=tmp_path / "one.json", weights_every=1, callbacks=[Disturb(4)])
    assert caught.value.difference[:2] == (4, "weights")
    assert "step 4 (epoch 2, step 1): the weights after it differ, on the same data" in str(caught.value)
    with pytest.raises(RunsDiffer) as caught:
        run(against=tmp_path / "one.json", weights_every=100, callbacks=[Disturb(9)])
    assert caught.value.difference[:2] == (9, "final weights") and "2.bias" in caught.value.difference.text
    whole = run(tmp_path / "two.json", weights_every=4, against=tmp_path / "one.json")
    assert first_difference(read_certificate(tmp_path / "one.json"), whole) is None
    assert replay(tmp_path / "one.json", tmp_path / "two.json").equal
    run(tmp_path / "two.json", callbacks=[Disturb(8)], weights_every=1)
    found = replay(tmp_path / "one.json", tmp_path / "two.json")
    assert not found.equal and found.text.startswith("step 8 (epoch 3, step 2): the weights after it differ")
    with pytest.raises(ValueError, match="no description of a run"):
        replay(tmp_path / "one.json")


def test_a_run_that_went_on_from_a_checkpoint_has_the_same_chain(tmp_path):
    whole = run()

    def part(folder, epochs, path=None):
        certificate = Certificate()
        trainer = trainer_for(network())
        if path is not None:
            trainer.resume(path)
        trainer.fit(samples(), epochs=epochs, batch_size=16, callbacks=[Checkpoint(folder), certificate],
                    progress=False)
        return certificate.content

    part(tmp_path / "run", 1)
    random.seed(99)
    resumed = part(tmp_path / "run", 3, tmp_path / "run")
    assert first_difference(whole, resumed) is None and resumed["chain"] == whole["chain"]


def test_different_batches_have_different_hashes():
    class Batches:
        def __init__(self, inputs):
            self.inputs = inputs

        def __iter__(self):
            return iter([self.inputs])

    def data(batch):
        certificate = Certificate()
        model = nn.Linear(4, 2)
        trainer_for(model, loss=lambda output, target: (output ** 2).mean()).fit(Batches(batch), progress=False,
                                                                               callbacks=[certificate])
        return certificate.content["steps"][0].split()[5]

    inputs, target = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(3)
    same = data((inputs, target))
    assert same == data((inputs.copy(), target))
    others = [(inputs[::-1], target), (inputs, target[::-1]), (inputs, target.astype(np.int32)),
              (np.nextafter(inputs, np.float32(99)), target)]
    assert len({same, *map(data, others)}) == 5


BAD = {
    "unknown entry": ({"modle": "lenet5"}, r"unknown entry 'modle'; did you mean 'model'"),
    "model": ({"model": "os.system"}, "model must be one of alexnet"),
    "data": ({"data": "/etc/passwd"}, "data must be one of mnist"),
    "optimiser": ({"optimizer": {"name": "__init__"}}, "optimizer must be an object with a name"),
    "option": ({"optimizer": {"name": "SGD", "momentun": 1}}, "SGD has no option 'momentun'; did you mean 'momentum'"),
    "option value": ({"optimizer": {"name": "SGD", "lr": "x"}}, "lr must be a number"),
    "params": ({"optimizer": {"name": "SGD", "params": 1}}, "SGD has no option 'params'"),
    "epochs": ({"epochs": 0}, "epochs must be a whole number from 1"),
    "huge": ({"batch_size": 10**12}, "batch_size must be a whole number"),
    "seed": ({"seed": None}, "seed must be a whole number"),
    "boolean": ({"augment": "yes"}, "augment must be true or false"),
    "clip": ({"clip_norm": -1}, "clip_norm must be a number from 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_descriptions_are_refused(tmp_path, capsys, case):
    values, message = BAD[case]
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**RUN, **values}))
    with pytest.raises(FileFormatError, match=message):
        certify(path)
    assert main(["certify", str(path)]) == 1 and "minidl: " in capsys.readouterr().err


def test_an_edited_certificate_is_refused(certified, tmp_path):
    text = certified.read_text()
    content = json.loads(text)
    for old, new in (("step 3 data ", "step 4 data "), ("p+1", "p+2"), ('"threads": ', '"threads": "x", "t": '),
                     (content["certificate"]["final"]["fc1.bias"], "0" * 64),
                     (content["certificate"]["chain"], "0" * 64),
                     (content["certificate"]["steps"][2], "epoch"), ("minidl certificate 1", "minidl certificate 2")):
        path = tmp_path / "edited.json"
        path.write_text(text.replace(old, new, 1))
        assert path.read_text() != text
        with pytest.raises(FileFormatError):
            read_certificate(path)
    for bad in ("", "[]", "{}", "{", '{"certificate": 3}', '{"certificate": {}}', "\x00"):
        path.write_text(bad)
        with pytest.raises(FileFormatError):
            replay(path)
    with pytest.raises(ValueError, match="weights_every"):
        Certificate(weights_every=0)
