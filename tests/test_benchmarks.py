"""The benchmark suite: its statistics, what it compares, its tables, and a small run without PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from benchmarks import __main__ as command
from benchmarks import (
    ceilings,
    child,
    frozen,
    gemm,
    layers,
    machine,
    memory,
    peers,
    report,
    runs,
    shapes,
    suite,
    timing,
    twins,
)
from benchmarks.recurrent_twins import TASKS as RECURRENT_TASKS
from benchmarks.timing import Contestant

ROOT = Path(__file__).resolve().parents[1]
ROW_KEYS = {"name", "threads", "minidl_ms", "peers", "ratio"}


def work(ours, theirs, tolerance=1e-4):
    return suite.Work("sum", {"minidl": Contestant(lambda _: ours), "torch": Contestant(lambda _: theirs)},
                      flops=1e6, tolerance=tolerance)


def settings(**options):
    return suite.Settings(1, {}, quick=True, seconds=0.01, **options)


def row(name="matmul 8", threads=1, ratio=2.0, verb="gemm", **more):
    return {"name": name, "threads": threads, "minidl_ms": 1.5, "peers": {"torch": 3.0}, "ratio": ratio, "verb": verb,
            "date": "2026-01-31", "machine": "a machine", **more}


def test_quartiles_and_median():
    assert timing.quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
    assert timing.Times(9.0, [1.0, 2.0, 9.0]).median == 2.0
    with pytest.raises(ValueError, match="nothing was measured"):
        timing.quartiles([])


def test_geometric_mean():
    assert timing.geometric_mean([0.5, 8.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="positive"):
        timing.geometric_mean([1.0, 0.0])


def test_contestants_take_turns_and_preparation_is_apart(monkeypatch):
    monkeypatch.setattr(timing, "TURNS", 3)
    calls = []
    contestants = {
        "minidl": Contestant(lambda given: calls.append(("minidl", given)), prepare=lambda: len(calls)),
        "torch": Contestant(lambda given: calls.append(("torch", given))),
    }
    times = timing.take_turns(contestants, {"minidl": 0.5, "torch": 0.7}, seconds=60)
    order = [name for name, _ in calls]
    turns = [name for name, before in zip(order, [None, *order]) if name != before]
    assert turns == ["minidl", "torch"] * 3
    assert all(given == number for number, (name, given) in enumerate(calls) if name == "minidl")
    # the first call of each turn is not counted
    assert len(times["minidl"].samples) == order.count("minidl") - 3
    assert times["torch"].first == 0.7


def test_largest_difference_is_in_units_of_the_peers_root_mean_square():
    theirs = np.array([3.0, -4.0, 5.0, 0.0], np.float32)
    assert suite.largest_difference([theirs + 0.1], [theirs]) == pytest.approx(0.1 / np.sqrt(12.5), rel=1e-4)
    assert suite.largest_difference([theirs, theirs], [theirs]) == np.inf
    assert suite.largest_difference(theirs.reshape(2, 2), theirs) == np.inf
    assert suite.largest_difference(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == np.inf
    assert suite.largest_difference(np.array([1.0, 2.0]), np.array([1.0, np.inf])) == np.inf
    assert suite.largest_difference(np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf])) == 0


def test_outputs_that_differ_are_an_error_and_no_row():
    one = np.ones(3, np.float32)
    with pytest.raises(suite.OutputsDiffer, match="sum: minidl and torch differ by 0.01"):
        suite.measure(work(one * 1.01, one), settings())
    errors = []
    rows = suite.rows_of([work(one * 1.01, one), work(one, one)], settings(), errors)
    assert [found["difference"] for found in rows] == [0.0]
    assert len(errors) == 1 and "differ" in errors[0]


def test_an_exception_is_an_error_and_the_other_rows_are_measured():
    def fail(_):
        raise RuntimeError("no such kernel")

    errors = []
    broken = suite.Work("broken", {"minidl": Contestant(fail)})
    assert len(suite.rows_of([broken, work(np.ones(2), np.ones(2))], settings(), errors)) == 1
    assert errors == ["1 threads  broken: RuntimeError: no such kernel"]


def test_a_row_has_what_the_table_needs():
    found = suite.measure(work(np.ones(3), np.ones(3)), settings(peak_gflops=100.0))
    assert ROW_KEYS <= set(found)
    assert found["ratio"] == pytest.approx(found["peers"]["torch"] / found["minidl_ms"], rel=0.01)
    low, high = found["quartiles_ms"]["minidl"]
    assert low <= found["minidl_ms"] <= high
    assert found["gflops"] == pytest.approx(1e6 / (found["minidl_ms"] * 1e-3) / 1e9, rel=0.05, abs=0.1)
    assert found["percent_of_peak"] == pytest.approx(found["gflops"], abs=0.1)
    json.dumps(found)


def test_missing_peer_is_skipped_by_name_and_the_rest_is_measured(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    monkeypatch.setattr(gemm, "QUICK_SIZES", (8,))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    orders = {"verb": "gemm", "networks": [], "threads": 1, "peers": ["torch", "numpy"], "quick": True, "seconds": None}
    rows, errors = child.measure(orders)
    said = capsys.readouterr().err
    assert "torch is not installed: skipped" in said and "numpy is not" not in said
    assert not errors and len(rows) == 2
    for found in rows:
        assert ROW_KEYS <= set(found)
        assert set(found["peers"]) == {"numpy"} and found["ratio"] is None
        assert found["minidl_ms"] > 0 and found["difference"] <= found["tolerance"]
    assert "No row has a ratio" in report.summary(rows)


def test_unknown_peer_is_refused():
    with pytest.raises(ValueError, match="unknown peer 'tensorflow'"):
        peers.load(["tensorflow"])
    with pytest.raises(SystemExit):
        command.parse(["gemm", "--peers", "tensorflow"])


def test_command_line():
    options = command.parse(["layers", "vgg16", "seeds", "--threads", "1,4", "--peers", "numpy", "--quick"])
    assert (options.networks, options.threads) == (["vgg16", "seeds"], [1, 4])
    assert (options.peers, options.quick) == (["numpy"], True)
    for wrong in (["layers", "alexnet"], ["gemm", "vgg16"], ["gemm", "--threads", "0"], ["cook"]):
        with pytest.raises(SystemExit):
            command.parse(wrong)


def test_command_writes_a_json_list_of_rows(tmp_path, capfd):
    path = tmp_path / "rows.json"
    assert command.main(["gemm", "--quick", "--threads", "1", "--peers", "numpy", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert [found["name"] for found in rows] == [
        "matmul 64 x 64 x 64", "matmul 256 x 256 x 256", "matmul 1024 x 1024 x 1024", "linear 32 x 784 -> 128"]
    for found in rows:
        assert ROW_KEYS | {"date", "machine", "verb", "gflops", "algorithm"} <= set(found)
        assert found["threads"] == 1 and found["algorithm"] in ("gemm", "numpy")
    assert "| matmul 64 x 64 x 64 | 1 |" in capfd.readouterr().out


def test_layers_of_networks_lead_into_each_other():
    for name, network in shapes.NETWORKS.items():
        assert len(set(network)) == len(network), name
        for layer in network:
            assert layer.channels % layer.groups == 0 == layer.outputs % layer.groups
            assert layer.output_size > 0
            produced = {(other.outputs, other.output_size) for other in network}
            # what a layer reads is an image, or what another one made, perhaps pooled
            assert layer.channels in (1, 3) or any(
                layer.channels == outputs and layer.size in (size, size // 2) for outputs, size in produced), layer


def test_flops_of_vgg16s_second_layer():
    assert shapes.VGG16[1].flops == 2 * 4 * 224 * 224 * 64 * 64 * 9
    assert shapes.MOBILENET_V2[1].flops == 2 * 8 * 112 * 112 * 32 * 9


def test_three_directions_of_a_small_layer_are_measured(monkeypatch):
    monkeypatch.setitem(shapes.NETWORKS, "tiny", (shapes.Layer(16, 4, 6, 4, 3, 2, 1, 2),))
    found = list(layers.works(settings(), ["tiny"]))
    assert [one.facts["direction"] for one in found] == ["forward", "input gradient", "weight gradient"]
    shapes_of = [one.contestants["minidl"].once()[1].shape for one in found]
    assert [tuple(shape) for shape in shapes_of] == [(1, 4, 3, 3), (1, 4, 6, 6), (4, 2, 3, 3)]


def test_table_and_summary():
    rows = [row(difference=2.5e-7), row(threads=2, ratio=8.0), row("matmul 9", 2, 0.5)]
    lines = report.table(rows).splitlines()
    assert lines[0] == "| work | threads | minidl ms | torch ms | ratio | largest difference |"
    assert lines[2] == "| matmul 8 | 1 | 1.5 | 3 | 2 | 2.5e-07 |"
    assert len(lines) == 5
    assert report.summary(rows).splitlines()[2] == "| matrix products | 2.00 | 2.00 (smallest 0.50) | 2 |"


def test_files_of_results_and_readmes_table(tmp_path):
    path, readme = tmp_path / "deep" / "rows.json", tmp_path / "README.md"
    report.save([row(), row(threads=2)], path)
    assert len(path.read_text().splitlines()) == 4  # a line for each row
    newer = tmp_path / "newer.json"
    report.save([row(ratio=4.0)], newer)
    rows = report.load([path, newer])
    assert [(r["threads"], r["ratio"]) for r in rows] == [(1, 4.0), (2, 2.0)]
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_between_marks(report.readme_table(rows), readme)
    text = readme.read_text()
    assert "old" not in text and text.startswith("before\n") and text.endswith("after\n")
    assert "| matrix products | 4.00 | 2.00 | 1 |" in text and "- 2026-01-31: a machine" in text
    readme.write_text("nothing")
    with pytest.raises(ValueError, match="no place for the table"):
        report.write_between_marks("table", readme)
    assert readme.read_text() == "nothing"


def test_kept_results_are_rows():
    for path in report.RESULTS.glob("*.json"):
        for kept in json.loads(path.read_text()):
            assert ROW_KEYS | {"date", "machine", "verb"} <= set(kept), path


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    report.picture([row(), row(threads=2, ratio=0.5)], tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no row has a ratio"):
        report.picture([row(ratio=None)], tmp_path / "none.png")


def test_pinning_reaches_the_libraries(monkeypatch):
    before = minidl.get_num_threads()
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    try:
        peers.pin(1, {})
        assert minidl.get_num_threads() == 1
    finally:
        minidl.set_num_threads(before)
    assert peers.environment(3)["OPENBLAS_NUM_THREADS"] == "3"
    allowed = peers.cores()
    with peers.confined(1):
        assert peers.cores() == (1 if hasattr(os, "sched_setaffinity") else allowed)
    assert peers.cores() == allowed


def test_peak_of_multiply_adds_is_plausible():
    pytest.importorskip("numba")
    flops, loop = ceilings._multiply_add_loop()
    # each accumulator starts at its number n and becomes total * 0.5 + 1.5, which settles at 3
    assert loop(200) == pytest.approx(3.0 * ceilings.ACCUMULATORS)
    assert loop(1) == pytest.approx(sum(0.5 * n + 1.5 for n in range(ceilings.ACCUMULATORS)))
    assert flops in (2 * ceilings.ACCUMULATORS * lanes for lanes in (4, 8, 16))


def test_training_steps_learn_from_the_same_weights():
    task = twins.TASKS[2]._replace(shape=(4, 1, 28, 28), lr=1e-2)
    lib = twins.library("minidl")
    model, data = task.network(lib), twins.batch(task, np.random.default_rng(3))
    step = twins.training_step(model, task, lib, data)
    other = twins.training_step(twins.twin(model, task, lib), task, lib, data)
    losses = [step() for _ in range(5)]
    assert [other() for _ in range(5)] == losses
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("task", RECURRENT_TASKS, ids=lambda task: task.name)
def test_recurrent_training_steps_learn_from_the_same_weights(task):
    small, lib = task.warm._replace(lr=1e-2), twins.library("minidl")
    model, data = small.network(lib), twins.batch(small, np.random.default_rng(3))
    assert data[0].dtype == np.int64 and data[0].max() < small.vocabulary
    step = twins.training_step(model, small, lib, data)
    other = twins.training_step(twins.twin(model, small, lib), small, lib, data)
    losses = [step() for _ in range(5)]
    assert [other() for _ in range(5)] == losses and losses[-1] < losses[0]
    assert task in memory.TASKS


def test_memory_is_that_of_the_steps():
    """In a process of its own, as the benchmark measures: here, other tests have left free memory behind."""
    code = ("from benchmarks import memory, twins\n"
            "memory.TASKS = (twins.Task('wide', lambda lib: lib.nn.Linear(4096, 1024), (8, 4096), 'SGD', 1e-3),)\n"
            "print(memory.main('minidl', 'wide'))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) >= 30  # MiB: weights and gradients are 16 each


def test_machine_is_described():
    said = machine.describe()
    assert "Python 3" in said and "numpy" in said and "core" in said
    load = machine.OtherLoad().cores()
    assert load is None or load >= 0


def test_head_of_a_frozen_network_gives_a_row_for_first_second_and_later_epochs(monkeypatch):
    def small(lib):
        return minidl.freeze(lib.nn.Sequential(lib.nn.Conv2d(3, 2, 3), lib.nn.Sequential(lib.nn.Flatten(),
                                                                                         lib.nn.Linear(72, 10))), "0")

    monkeypatch.setattr(frozen, "CASES", (frozen.Case("a small network", small, 8, 4),))
    monkeypatch.setattr(frozen, "SIDE", 8)
    errors = []
    measured = list(frozen.rows(settings(), errors))
    assert not errors and [row["name"].split(": ")[1].split(",")[0] for row in measured] == \
        ["first epoch", "second epoch", "later epochs"]
    assert all(ROW_KEYS <= set(row) and row["minidl_ms"] > 0 for row in measured)


def test_examples_run_whole_and_missing_data_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # MNIST is embedded, CIFAR-10 is not
    errors = []
    [row] = runs.rows(settings(), errors)
    assert row["name"] == "epoch of mnist_cnn.py, 1,830 images, batch 64, Adam"
    assert row["epochs"] == row["samples"] == 1 and row["ratio"] is None and row["minidl_ms"] > 0
    assert 60 < row["accuracy"]["minidl"] < 95  # the first 30 steps
    assert len(errors) == 1 and "cifar10" in errors[0]
