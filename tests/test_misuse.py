"""Every public name of minidl has a test of its commonest misuse, which says what was wrong, or a reason for none."""

import re

import pytest
from misuse_cases_data import DATA, TRAIN
from misuse_cases_functions import FUNCTIONS, OPTIMISERS, F, S, nn, optim
from misuse_cases_layers import LAYERS
from misuse_cases_top import TOP
from misuse_cases_transfer import COMPARE, MODELS, ONNX, TRANSFER

import minidl
from minidl import compare, data, models, onnx, train, transfer

EXEMPT = {
    "functional": "a module", "init": "a module", "utils": "a module",
    "cache_folder": "takes no arguments",
    "list_models": "a pattern that fits no name gives an empty list, as a search should",
    "advise": "gets what which_model has checked",
    **dict.fromkeys(["DownloadError", "ExportError", "FrozenChanged", "LoadError", "RunsDiffer", "TrainingWarning",
                     "UntrainedWarning"], "an exception or a warning"),
    **dict.fromkeys(["Advice", "BertOutput", "Comparison", "Cut", "Difference", "FineTuneHistory", "GreedySoup",
                     "InceptionOutputs", "Ledger", "Probe", "RangeTest", "Selection", "Verification"],
                    "a result, not made by users"),
    "METHODS": "a table",
}
PLAIN = {  # of minidl itself
    **dict.fromkeys(["abs", "neg", "negative", "sign", "round", "square", "isnan", "isinf", "isfinite", "nonzero",
                     "logical_not", "equal", "clone", "clip", "clamp", "tril", "triu", "tile", "masked_fill"],
                    "numbers of any kind and shape will do"),
    **dict.fromkeys(["empty_like", "full_like", "ones_like", "zeros_like"], "whatever has a shape will do"),
    **dict.fromkeys(["AnomalyError", "DataNotFoundError", "FileFormatError", "ShapeError"], "an exception"),
    **dict.fromkeys(["get_num_threads", "get_precision", "is_grad_enabled", "seed"], "takes no arguments to speak of"),
    **dict.fromkeys(["detect_anomaly", "enable_grad", "inference_mode", "no_grad", "set_grad_enabled"],
                    "a switch, whose misuse is tested with what it switches"),
    **dict.fromkeys(["Generator", "Tensor", "check_gradients", "device", "did_you_mean", "manual_seed",
                     "meshgrid"], "not yet"),
}
MAKERS = re.compile("alexnet|efficientnet_lite0|inception_v3|lenet5|mobilenet_v2|resnet[0-9]+|vgg[0-9]+(_bn)?")
TABLES = {"nn": LAYERS, "functional": FUNCTIONS, "optim": OPTIMISERS, "data": DATA, "train": TRAIN,
          "minidl": TOP, "transfer": TRANSFER, "models": MODELS, "onnx": ONNX, "compare": COMPARE}


def misuses():
    return [pytest.param(*entry, id=f"{room}.{name}")
            for room, table in TABLES.items() for name, entry in table.items()]


@pytest.mark.parametrize(("call", "kind", "words"), misuses())
def test_the_commonest_misuse_is_named(call, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (pytest.warns if issubclass(kind, Warning) else pytest.raises)(kind, match=re.escape(words)):
        call()
    assert not list(tmp_path.iterdir())


def public(module):
    return {name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))
            and getattr(getattr(module, name), "__module__", "").startswith("minidl.")}


def test_every_public_name_has_an_entry():
    assert set(nn.__all__) <= {*LAYERS, *EXEMPT}
    assert public(F) - {"Tensor", "as_array", "missing_layer", "annotations"} <= {*FUNCTIONS, *EXEMPT}
    assert {*optim.__all__, *public(S)} - {"lr_scheduler", "checked_optimizer", "check_positive"} <= {
        *OPTIMISERS, *EXEMPT}


@pytest.mark.parametrize("package", [data, train, transfer, models, onnx, compare], ids=lambda room: room.__name__)
def test_every_public_name_of_a_package_has_an_entry(package):
    names, table = set(package.__all__), TABLES[package.__name__.rpartition(".")[2]]
    if package is models:  # functions that make a class of this table with some of its arguments
        names = {name for name in names if not MAKERS.fullmatch(name)}
    assert names - {*table, *EXEMPT} == set()
    assert set(table) - set(package.__all__) == set(), "entries for names that are gone"


def test_every_function_of_minidl_itself_has_an_entry():
    lazy = {*TRANSFER, *TRAIN}  # minidl.load is minidl.transfer.load
    assert public(minidl) - {*TOP, *PLAIN, *lazy} == set()
    assert {*TOP, *PLAIN} - public(minidl) == set(), "entries for names that are gone"
