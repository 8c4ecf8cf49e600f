"""The demo as a user runs it, small: the files it leaves, what they say, and what bad settings get."""

import json
import sys

import numpy as np
import pytest

from minidl import no_grad, tensor, transfer
from minidl.cli import main
from minidl.data import mnist
from minidl.data.places import EMBEDDED
from minidl.demo import METHODS
from minidl.report import combine, describe_machine, summarise_runs, table, verdicts

PARAMETERS = 121_930


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    arguments = ["demo", "--embedded", "--quiet", "--epochs", "1", "--target-epochs", "2", "--labels", "200",
                 "--seed", "3", "--output", str(folder / "out"), "--json", str(folder / "copy" / "results.json")]
    assert main(arguments) == 0
    return folder


def test_results_hold_every_measured_figure(run):
    results = json.loads((run / "out" / "results.json").read_text())
    assert results == json.loads((run / "copy" / "results.json").read_text())
    assert results["source"]["test_accuracy"] > 0.8
    assert results["source"]["trained_parameters"] == PARAMETERS
    assert results["target"]["labels"] == 200
    for method in METHODS:
        row = results["target"][method]
        assert 0.2 < row["test_accuracy"] < 1 and row["seconds"] > 0
        assert row["trained_parameters"] == (16_010 if method == "features" else PARAMETERS)
        assert row["frozen_parameters"] == (18_816 if method == "features" else 0)


def test_the_saved_source_answers_as_was_reported(run):
    results = json.loads((run / "out" / "results.json").read_text())
    model = transfer.load(run / "out" / "source.safetensors")
    images, labels = mnist("test", root=EMBEDDED).arrays()
    model.eval()
    with no_grad():
        answers = np.concatenate([model(tensor(images[i:i + 500])).numpy() for i in range(0, len(images), 500)])
    assert (answers.argmax(axis=1) == labels).mean() == pytest.approx(results["source"]["test_accuracy"])
    assert model.classes == list("0123456789")
    assert model.provenance["seed"] == 3


def test_report_and_picture_are_there(run):
    report = (run / "out" / "report.md").read_text()
    results = json.loads((run / "out" / "results.json").read_text())
    for method in METHODS:
        assert f"{results['target'][method]['test_accuracy']:.2%}" in report
    assert describe_machine() in report
    picture = (run / "out" / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert sorted(path.name for path in (run / "out").iterdir()) == [
        "curves.png", "report.md", "results.json", "source.safetensors"]


@pytest.mark.parametrize("arguments, message", [
    (["--labels", "9"], "between 10"),
    (["--labels", "5001"], "held out"),
    (["--epochs", "0"], "at least 1"),
    (["--seeds", "0"], "at least 1"),
])
def test_settings_that_cannot_be_run_are_refused_before_training(arguments, message, tmp_path, capsys):
    assert main(["demo", "--embedded", "--quiet", "--output", str(tmp_path / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.*"))


def test_a_folder_that_cannot_be_written_is_reported_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "--embedded", "--output", str(tmp_path / "file" / "out")]) == 1
    assert "file" in capsys.readouterr().err


def test_a_missing_matplotlib_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo", "--embedded", "--output", str(tmp_path)]) == 1
    assert "minidl[plot]" in capsys.readouterr().err


class Named:
    def __init__(self, name, train, test):
        self.name, self.train, self.test = name, range(train), range(test)


def made_up_run(seed, scratch, others):
    row = {"seconds": 1.0, "trained_parameters": 10, "frozen_parameters": 0, "curve": [scratch]}
    rows = {method: {**row, "test_accuracy": value} for method, value in zip(METHODS, (scratch, *others))}
    return {"seed": seed, "source": {"test_accuracy": 0.9, "seconds": 2.0, "trained_parameters": 10}, "target": rows}


def test_several_seeds_give_mean_and_standard_deviation_and_losses_are_named():
    runs = [made_up_run(0, 0.80, (0.90, 0.70, 0.80)), made_up_run(1, 0.82, (0.84, 0.74, 0.82))]
    results = summarise_runs(runs, {"labels": 5}, Named("A", 60, 10), Named("B", 5, 10))
    row = results["target"]["parameters"]
    assert row["test_accuracy"] == pytest.approx(0.87)
    assert row["test_accuracy_std"] == pytest.approx(np.std([0.90, 0.84], ddof=1))
    assert "87.00% ± 4.24%" in table(results)
    won, lost, tied, noise = verdicts(results)
    assert "wins: +6.00 points" in won and "better in 2 of 2 seeds" in won
    assert "loses: -9.00 points" in lost and "better in 0 of 2 seeds" in lost
    assert "20 test answers" in noise
    assert combine([runs[0]["source"]])["test_accuracy_std"] == 0
