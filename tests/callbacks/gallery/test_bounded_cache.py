"""What is kept in memory, and for how long."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from assay.callbacks.gallery.bounded_cache import BoundedCache


def made(values, size=100):
    def make():
        values.append(np.zeros(size, np.uint8))
        return values[-1]

    return make


def test_a_value_is_made_once_per_version():
    cache, values = BoundedCache(1000), []
    first = cache.get("a", 1, made(values))
    assert cache.get("a", 1, made(values)) is first
    assert cache.get("a", 2, made(values)) is not first
    assert len(values) == 2
    assert cache.nbytes == 100


def test_what_was_not_asked_for_longest_is_dropped():
    cache, values = BoundedCache(250), []
    for key in ("a", "b", "a", "c"):
        cache.get(key, 1, made(values))
    assert (len(values), cache.nbytes) == (3, 200)
    cache.get("a", 1, made(values))
    assert len(values) == 3
    cache.get("b", 1, made(values))
    assert (len(values), cache.nbytes) == (4, 200)


def test_the_newest_is_kept_whatever_its_size():
    cache, values = BoundedCache(250), []
    cache.get("a", 1, made(values))
    large = cache.get("b", 1, made(values, 1000))
    assert cache.get("b", 1, made(values)) is large
    assert cache.nbytes == 1000


def test_a_value_that_is_made_of_others_keeps_them():
    cache, values = BoundedCache(1000), []
    cache.get("whole", 1, lambda: cache.get("part", 1, made(values)).copy())
    cache.get("whole", 1, made(values))
    cache.get("part", 1, made(values))
    assert (len(values), cache.nbytes) == (1, 200)


def test_several_threads_make_it_once():
    cache, values, gate = BoundedCache(1000), [], threading.Barrier(4)

    def slowly():
        time.sleep(0.05)
        return made(values)()

    def ask(_):
        gate.wait()
        return cache.get("a", 1, slowly)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(values) == 1
    assert all(one is values[0] for one in found)


def test_one_that_fails_is_made_again():
    cache = BoundedCache(1000)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", 1, lambda: 1 / 0)
    assert cache.get("a", 1, made([])).nbytes == 100
