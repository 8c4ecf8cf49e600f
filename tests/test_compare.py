"""compare-transfer as a user runs it, small: its files, its verdicts, harm that is named, frozen parts that stay."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from minidl import random, transfer
from minidl.cli import main
from minidl.compare import METHODS, Comparison, Settings, Task, compare_transfer, fit_images, load_task, paired
from minidl.compare.methods import Run, batches_of
from minidl.compare.networks import Source, frozen_body, size_for
from minidl.compare.results import STUDENT
from minidl.data.images import ImageDataset
from minidl.errors import ShapeError
from minidl.models import create_model, mnist_cnn

BUDGET = 12
RUN = {"method", "labels", "seed", "accuracy", "seconds", "steps", "rate", "trained_parameters", "frozen_parameters",
       "verified", "frozen_bytes_changed"}
ROW = (RUN - {"seed"}) | {"seeds", "accuracy_std", "difference", "standard_error", "verdict", "negative_transfer"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    assert main(["compare-transfer", "--source", "mnist", "--target", "fashion", "--labels", "1%,300", "--seeds", "2",
                 "--seed", "5", "--budget", str(BUDGET), "--source-budget", "40", "--rate", "lora=0.02", "--embedded",
                 "--output", str(folder / "out"), "--json", str(folder / "copy" / "results.json"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def results(run):
    return json.loads((run / "out" / "results.json").read_text())


def made_up_task(classes=4, channels=3, rows=32, each=20):
    """Noise around a colour for each class."""
    draw = np.random.default_rng(0)
    parts = []
    for _ in range(2):
        labels = np.repeat(np.arange(classes), each)
        images = draw.integers(0, 60, (len(labels), channels, rows, rows)) + labels[:, None, None, None] * 60
        parts.append(ImageDataset(images.clip(0, 255).astype(np.uint8), labels, [f"c{n}" for n in range(classes)]))
    return Task("colours", *parts)


def test_results_hold_every_run_and_row_under_names_that_stay(run, results):
    assert results == json.loads((run / "copy" / "results.json").read_text())
    assert set(results) == {"format", "date", "machine", "settings", "source", "target", "complete", "planned_runs",
                            "rows", "runs"}
    assert results["format"] == 1 and results["complete"] and results["planned_runs"] == 2 * 2 * 6
    assert [(r["seed"], r["labels"], r["method"]) for r in results["runs"]] == [
        (seed, labels, method) for seed in (5, 6) for labels in (60, 300) for method in METHODS]
    assert all(set(r) == RUN and r["steps"] == BUDGET for r in results["runs"])
    assert all(set(r) == ROW and r["seeds"] == 2 for r in results["rows"])
    assert results["settings"]["rates"]["lora"] == 0.02 and "lora" in results["settings"]["methods"]
    assert results["target"]["labels"] == [60, 300] and results["target"]["images_measured"] == 1000
    assert [entry["seed"] for entry in results["source"]["networks"]] == [5, 6]


def test_rows_are_the_means_of_their_runs_and_the_paired_differences(results):
    for row in results["rows"]:
        own, scratch = ([r["accuracy"] for r in results["runs"] if (r["method"], r["labels"]) == (m, row["labels"])]
                        for m in (row["method"], "scratch"))
        assert row["accuracy"] == pytest.approx(np.mean(own))
        assert row["accuracy_std"] == pytest.approx(np.std(own, ddof=1))
        if row["method"] == "scratch":
            assert row["difference"] is None and row["verdict"] == ""
        else:
            assert row["difference"] == pytest.approx(np.mean(own) - np.mean(scratch))
            assert row["standard_error"] == pytest.approx(np.std(np.subtract(own, scratch), ddof=1) / math.sqrt(2))


def test_what_is_frozen_is_counted_and_verified_unchanged(results):
    frozen = {"features": 18_816, "lora": 121_280}
    for r in results["runs"]:
        assert r["frozen_parameters"] == frozen.get(r["method"], 0)
        assert r["frozen_bytes_changed"] == 0
        if r["method"] in (*frozen, "fine_tune"):
            assert f"{frozen.get(r['method'], 121_280):,} parameters frozen, 0 bytes changed" in r["verified"][0]
        else:
            assert r["verified"] == ["nothing is frozen; 121,930 parameters trainable"]


def test_a_frozen_part_that_changes_is_not_passed_over(tmp_path):
    class Tampered(ImageDataset):
        """Whoever reads a batch finds a frozen bias of the network changed."""

        def select(self, indices):
            return Tampered(self.images[indices], self.labels[indices], self.classes, transform=self.transform)

        def __getitems__(self, indices):
            for model in networks:
                model.features.conv1.bias.array[0] += 1
            return super().__getitems__(indices)

    networks = []
    source = tmp_path / "source.safetensors"
    transfer.save(mnist_cnn(), source)
    task = made_up_task(channels=1, rows=28)
    few = Tampered(task.train.images, task.train.labels, task.classes)

    class Watched(Source):
        def load(self):
            networks.append(super().load())
            return networks[-1]

    batches = batches_of(len(few), 8, 3, np.random.default_rng(0))
    for method in ("features", "lora", "fine_tune"):
        networks.clear()
        with pytest.raises(transfer.FrozenChanged, match="features.conv1.bias"):
            METHODS[method].train(Run(Watched(str(source), None), few, batches, 4, 1e-3))


def test_report_and_picture_tell_the_same(run, results):
    report = (run / "out" / "report.md").read_text()
    for row in results["rows"]:
        assert f"{row['accuracy']:.2%} ± {row['accuracy_std']:.2%}" in report
        assert f"{row['labels']:,} | {METHODS[row['method']].title}" in report
    assert "18,816 parameters frozen, 0 bytes changed" in report
    assert "In all 12 runs with frozen parts together, 0 frozen bytes changed." in report
    picture = (run / "out" / "accuracy.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert sorted(path.name for path in (run / "out").iterdir()) == [
        "accuracy.png", "report.md", "results.json", "source-5.safetensors", "source-6.safetensors"]


def test_a_run_depends_on_its_seed_and_not_on_what_else_is_compared(results, tmp_path):
    again = compare_transfer("mnist", "fashion_mnist", labels=300, seeds=1, seed=6, methods=["fine_tune"],
                             budget=BUDGET, source_budget=40, embedded=True, output=str(tmp_path), progress=False)
    expected = {r["method"]: r["accuracy"] for r in results["runs"] if r["seed"] == 6 and r["labels"] == 300}
    assert [(r["method"], r["accuracy"]) for r in again.runs] == [
        (method, expected[method]) for method in ("scratch", "fine_tune")]


def test_verdicts_by_hand():
    # differences 0.02, 0.03, 0.04: mean 0.03, s = 0.01, error 0.01 / sqrt(3), 5.196 errors; Student's t is 4.303
    sure = paired([0.82, 0.83, 0.84], [0.80, 0.80, 0.80])
    assert sure.verdict == "gains" and sure.mean == pytest.approx(0.03)
    assert sure.standard_error == pytest.approx(0.00577350, abs=1e-8)
    assert paired([0.78, 0.77, 0.76], [0.80, 0.80, 0.80]).verdict == "loses"
    # differences 0.01, 0.03, 0.05: mean 0.03, s = 0.02, 2.598 errors
    assert paired([0.81, 0.83, 0.85], [0.80, 0.80, 0.80]).verdict == "no difference that these seeds can show"
    assert paired([0.5, 0.6], [0.5, 0.6]).verdict == "no difference that these seeds can show"
    assert paired([0.9], [0.5]) == (pytest.approx(0.4), None, "one seed: no verdict")


def test_the_points_of_students_t_leave_five_per_cent_outside():
    for freedom, t in enumerate(STUDENT, 1):
        x = np.linspace(-t, t, 20_001)
        density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
        density *= math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
        inside = ((density[1:] + density[:-1]) / 2).sum() * (x[1] - x[0])
        assert inside == pytest.approx(0.95, abs=1e-4)


def test_planted_negative_transfer_is_named(tmp_path, capsys):
    blind = mnist_cnn()
    for name in ("conv1", "conv2"):
        blind.features.get_submodule(name).weight.array[...] = 0
    transfer.save(blind, tmp_path / "blind.safetensors")
    assert main(["compare-transfer", "--source", str(tmp_path / "blind.safetensors"), "--target", "mnist:0,1,2",
                 "--labels", "60", "--seeds", "3", "--budget", "30", "--methods", "features,structure", "--embedded",
                 "--output", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {row["method"]: row for row in results["rows"]}
    assert rows["scratch"]["accuracy"] > 0.8 and rows["features"]["accuracy"] < 0.5
    assert rows["features"]["negative_transfer"] and rows["features"]["verdict"] == "loses"
    assert not rows["structure"]["negative_transfer"]
    for text in (capsys.readouterr().out, (tmp_path / "out" / "report.md").read_text()):
        assert "**loses: negative transfer**" in text
        assert "Negative transfer: feature transfer with 60 labels loses" in text
    assert results["source"]["networks"] == [{"seed": None, "file": str(tmp_path / "blind.safetensors")}]
    assert results["target"]["name"] == "mnist:0,1,2" and results["target"]["classes"] == ["0", "1", "2"]


def test_a_method_without_weights_that_loses_is_no_negative_transfer():
    def made_up(method, seed, accuracy):
        return {"method": method, "labels": 10, "seed": seed, "accuracy": accuracy, "seconds": 1.0, "steps": 1,
                "rate": 0.1, "trained_parameters": 1, "frozen_parameters": 0, "verified": [],
                "frozen_bytes_changed": 0}

    runs = [made_up("scratch", seed, 0.9 + seed / 100) for seed in range(3)]
    runs += [made_up(method, seed, 0.5 + seed / 100) for method in ("structure", "lora") for seed in (2, 0, 1)]
    found = Comparison({}, {}, {}, "", "", 9, runs=runs)
    assert {row["method"]: (row["verdict"], row["negative_transfer"]) for row in found.rows()} == {
        "scratch": ("", False), "structure": ("loses", False), "lora": ("loses", True)}
    assert found.rows()[1]["difference"] == pytest.approx(-0.4)


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    command = [sys.executable, "-m", "minidl.cli", "compare-transfer", "--source", "mnist", "--target", "fashion_mnist",
               "--labels", "100", "--seeds", "500", "--budget", "20", "--source-budget", "2", "--methods", "features",
               "--embedded", "--no-plot", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as job:
        lines = []
        for line in job.stdout:
            lines.append(line)
            if line.startswith("seed 1: 100 labels, feature"):
                job.send_signal(signal.SIGINT)
        assert job.wait() == 130, "".join(lines)
    results = json.loads((tmp_path / "results.json").read_text())
    assert not results["complete"] and 4 <= len(results["runs"]) < 1000
    assert {row["method"]: row["seeds"] >= 2 for row in results["rows"]} == {"scratch": True, "features": True}
    assert f"{len(results['runs'])} of 1000 runs were finished" in (tmp_path / "report.md").read_text()
    assert "accuracy.png" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("arguments, message", [
    (["--source", "minst"], "did you mean 'mnist'"),
    (["--target", "cifar100"], "did you mean 'cifar10'"),
    (["--target", "fashion_mnist:Bag,Hat"], "no class 'Hat'"),
    (["--target", "mnist:3"], "at least two classes"),
    (["--target", "mnist:3,3"], "each once"),
    (["--labels", "0.1"], "a share"),
    (["--labels", "120%"], "up to 100%"),
    (["--labels", "9"], "one image per class"),
    (["--labels", "7000"], "at most 6000"),
    (["--labels", "1%,60"], "the same"),
    (["--methods", "loar"], "did you mean 'lora'"),
    (["--rate", "lora=-1"], "above 0"),
    (["--seeds", "0"], "at least 1"),
    (["--budget", "0"], "at least 1"),
    (["--model", "lenet"], "did you mean 'lenet5'"),
    (["--size", "32"], "does not run on images of 32x32"),
])
def test_what_cannot_be_run_is_refused_before_training(arguments, message, tmp_path, capsys):
    usual = ["--source", "mnist", "--target", "fashion_mnist", "--embedded", "--output", str(tmp_path / "out")]
    assert main(["compare-transfer", *usual, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.*"))


def test_a_rate_that_is_no_number_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["compare-transfer", "--source", "mnist", "--target", "mnist", "--rate", "lora"])
    assert "METHOD=RATE" in capsys.readouterr().err


def test_rates_are_chosen_on_training_images(tmp_path):
    usual = {"labels": "1%", "seeds": 1, "methods": "scratch", "budget": 2, "source_budget": 2, "embedded": True,
             "output": str(tmp_path), "progress": False}
    found = compare_transfer("mnist", "fashion_mnist", validate=True, **usual)
    assert found.target["measured_on"] == "validation"
    assert (found.target["images_available"], found.target["images_measured"]) == (5000, 1000)
    assert found.runs[0]["labels"] == 50


def test_the_shared_generator_is_left_as_it_was(tmp_path):
    expected = random.seed(3).random(2)
    random.seed(3)
    compare_transfer("mnist", made_up_task(channels=1, rows=28), labels=8, seeds=1, methods="structure", budget=1,
                     source_budget=1, embedded=True, output=str(tmp_path), progress=False)
    np.testing.assert_array_equal(random.generator().random(2), expected)


def test_a_rate_that_diverges_is_named_and_what_was_finished_is_kept(tmp_path, capsys):
    transfer.save(mnist_cnn(), tmp_path / "source.safetensors")
    assert main(["compare-transfer", "--source", str(tmp_path / "source.safetensors"), "--target", "mnist:0,1",
                 "--labels", "20", "--budget", "3", "--methods", "parameters", "--rate", "parameters=1e30",
                 "--embedded", "--quiet", "--output", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "parameters, 20 labels, seed 0" in message and "--rate parameters" in message
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r["method"] for r in results["runs"]] == ["scratch"] and not results["complete"]


def test_images_are_fitted_to_the_network():
    grey = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    colour = fit_images(grey, 3, (32, 32))
    np.testing.assert_array_equal(colour[:, 1:2, 2:30, 2:30], grey)
    assert colour.shape == (2, 3, 32, 32) and colour.sum() == pytest.approx(3 * grey.sum(), rel=1e-4)
    red = np.zeros((1, 3, 32, 32), np.float32)
    red[:, 0] = 1
    np.testing.assert_allclose(fit_images(red, 1, (28, 28)), np.full((1, 1, 28, 28), 0.299), rtol=1e-5)
    np.testing.assert_array_equal(fit_images(grey, 1, (28, 28)), grey)
    with pytest.raises(ShapeError, match="channels"):
        fit_images(np.zeros((1, 4, 8, 8), np.float32), 3, (8, 8))


def test_classes_of_a_task_are_numbered_in_the_order_they_are_named():
    whole, part = load_task("fashion-mnist", embedded=True), load_task("fashion:bag, 0", embedded=True)
    assert part.classes == ("Bag", "T-shirt/top")
    np.testing.assert_array_equal(part.train.images[part.train.labels == 0],
                                  whole.train.images[whole.train.labels == 8])
    assert set(part.test.labels) == {0, 1} and len(part.test) == 200


def test_batches_are_full_and_go_round_evenly():
    batches = batches_of(10, 4, 25, np.random.default_rng(1))
    assert [len(batch) for batch in batches] == [4] * 25
    np.testing.assert_array_equal(np.bincount(np.concatenate(batches)), [10] * 10)
    assert [len(batch) for batch in batches_of(3, 64, 2, np.random.default_rng(1))] == [3, 3]


def test_a_task_of_ones_own_in_colour_and_a_network_with_tiny_layers(tmp_path):
    found = compare_transfer("mnist:1,7", made_up_task(), model="lenet5", labels=[40], seeds=1, budget=4,
                             source_budget=4, embedded=True, output=str(tmp_path), progress=False)
    assert found.target["given_as"] == [3, 28, 28] and found.target["classes"] == ["c0", "c1", "c2", "c3"]
    assert [r["method"] for r in found.runs] == list(METHODS) and found.complete
    rows = {row["method"]: row for row in found.rows()}
    assert rows["features"]["trained_parameters"] == 84 * 4 + 4
    assert all(row["verdict"] in ("", "one seed: no verdict") for row in found.rows())


def test_a_transform_of_ones_own_is_refused(tmp_path):
    task = made_up_task()
    task.train.transform = np.flip
    with pytest.raises(ValueError, match="transform"):
        compare_transfer("mnist", task, embedded=True, output=str(tmp_path))


def test_the_body_of_any_network_is_frozen_up_to_its_head():
    model, head, at = frozen_body(create_model("resnet20"), 3)
    assert (head, at) == ("linear", None)
    assert transfer.trainable(model) == 64 * 3 + 3 and transfer.frozen(model) == 269_722 - 650
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"linear.weight", "linear.bias"}
    assert size_for(create_model("resnet20"), (28, 28)) == (28, 28)
    assert size_for(mnist_cnn(), (32, 32)) == (28, 28)


def test_defaults_of_the_command_are_those_of_the_library():
    assert Settings("mnist", "mnist").shares == [0.01, 0.1, 1.0]
    rates = Settings("mnist", "mnist", methods="lora", rates={"lora": 0.5, "all": 0.25}).as_json()["rates"]
    assert rates == {"scratch": 0.25, "lora": 0.5}
    assert Settings("mnist", "mnist", methods=["LoRA", "fine-tune"]).methods == ["scratch", "fine_tune", "lora"]
