"""What is derived from weights and kept: derived anew when they change, dropped when they are freed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from minidl.kernels.cpu import kept as module
from minidl.kernels.cpu.kept import fingerprint, kept, kept_bytes


@pytest.fixture(autouse=True)
def nothing_kept_before(monkeypatch):
    monkeypatch.setattr(module, "_entries", type(module._entries)())


class Doubled:
    """Derives, and counts how often."""

    def __init__(self, array):
        self.array, self.calls = array, 0

    def __call__(self):
        self.calls += 1
        return self.array * 2

    def kept(self, kind="doubled"):
        result = kept(self.array, kind, self)
        assert np.array_equal(result, self.array * 2)
        return result


def weights(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_kept_from_the_second_use_of_the_same_numbers():
    doubled = Doubled(weights(4, 3))
    doubled.kept()
    assert kept_bytes() == 0
    second = doubled.kept()
    assert kept_bytes() == second.nbytes
    assert doubled.kept() is second and doubled.calls == 2


def test_training_keeps_nothing():
    doubled = Doubled(weights(4, 3))
    for _ in range(5):
        doubled.array += 1
        doubled.kept()
        assert kept_bytes() == 0


@pytest.mark.parametrize("place", [(0, 0), (499, 499), (250, 3)])
def test_derived_anew_after_a_change_through_a_view(place):
    doubled = Doubled(weights(500, 500))
    for _ in range(3):
        doubled.kept()
    doubled.array.T[place] = np.nextafter(doubled.array.T[place], np.float32(9))
    doubled.kept()
    assert doubled.calls == 3 and kept_bytes() == 0


def test_kinds_and_arrays_stand_apart():
    one, other = Doubled(weights(4, 3)), Doubled(weights(4, 3))
    for _ in range(3):
        one.kept(), one.kept("otherwise"), other.kept()
    assert (one.calls, other.calls) == (4, 2)


def test_an_equal_view_is_the_same_array():
    array = weights(4, 3)
    results = [kept(array[:], "doubled", lambda: (array * 2, array * 3)) for _ in range(3)]
    assert results[2] is results[1]
    assert kept_bytes() == 2 * array.nbytes


def test_dropped_when_the_memory_of_the_weights_is_freed():
    doubled = Doubled(weights(6, 3)[1:])
    doubled.kept(), doubled.kept()
    assert kept_bytes()
    doubled.array = doubled.array[1:]  # a view is left, and with it the memory
    assert kept_bytes()
    doubled.array = None
    assert not kept_bytes() and not module._entries


def test_the_longest_unused_is_dropped_first(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 250)
    one, two, three = [Doubled(weights(5, 5)) for _ in range(3)]
    one.kept(), one.kept(), two.kept(), two.kept(), one.kept(), three.kept(), three.kept()
    assert kept_bytes() == 200
    one.kept(), two.kept(), three.kept()
    assert (one.calls, two.calls, three.calls) == (2, 3, 2)


def test_limit_zero_keeps_none(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 0)
    doubled = Doubled(weights(4, 3))
    for _ in range(3):
        doubled.kept()
    assert doubled.calls == 3 and not module._entries


def test_fingerprints_differ_in_order_place_and_sign():
    array = weights(300, 301)
    seen = {fingerprint(array), fingerprint(array[::-1].copy()), fingerprint(-array), fingerprint(array[:-1])}
    for place in (0, 1, 65535, 65536, array.size - 1):
        changed = array.copy()
        changed.reshape(-1)[place] *= 1 + 2**-20
        seen.add(fingerprint(changed))
    assert len(seen) == 9
    assert fingerprint(array) == fingerprint(array.copy())


def test_threads_agree():
    arrays = [weights(40, 40) for _ in range(4)]
    failures = []

    def work():
        for turn in range(100):
            array = arrays[turn % 4]
            if not np.array_equal(kept(array, "doubled", lambda: array * 2), array * 2):
                failures.append(turn)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures and kept_bytes() == sum(array.nbytes for array in arrays)
