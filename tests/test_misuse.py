"""Every public layer, function, optimiser and schedule has a test of its commonest misuse: what is said of it."""

import re

import pytest
from misuse_cases_functions import FUNCTIONS, OPTIMISERS, F, S, nn, optim
from misuse_cases_layers import LAYERS

EXEMPT = {
    "functional": "a module", "init": "a module", "utils": "a module",
}


def misuses():
    return [pytest.param(*entry, id=name) for table in (LAYERS, FUNCTIONS, OPTIMISERS) for name, entry in table.items()]


@pytest.mark.parametrize(("call", "kind", "words"), misuses())
def test_the_commonest_misuse_is_named(call, kind, words):
    with (pytest.warns if issubclass(kind, Warning) else pytest.raises)(kind, match=re.escape(words)):
        call()


def public(module):
    return {name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name))
            and getattr(getattr(module, name), "__module__", "").startswith("minidl.")}


def test_every_public_name_has_an_entry():
    assert set(nn.__all__) <= {*LAYERS, *EXEMPT}
    assert public(F) - {"Tensor", "as_array", "missing_layer", "annotations"} <= {*FUNCTIONS, *EXEMPT}
    assert {*optim.__all__, *public(S)} - {"lr_scheduler", "checked_optimizer", "check_positive"} <= {
        *OPTIMISERS, *EXEMPT}
