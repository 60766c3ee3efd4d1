import os
import subprocess
import sys

import pytest

CODE = """
import ctypes
import os
import resource
import statistics
import torch
from assay.runner.loop.parts.host_memory import keep_freed_memory

def faults(steps):
    counts = []
    for _ in range(steps):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        parts = [torch.ones(2**20) for _ in range(40)]  # 160 MiB
        del parts
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return int(statistics.median(counts))  # a busy machine takes pages of one step or another

def after_warm_up():
    faults(3)
    return faults(5)

if not any(name.startswith(("MALLOC_", "GLIBC_")) for name in os.environ):
    ctypes.CDLL(None).mallopt(-3, 2**17)  # what malloc begins with, before it has seen what is freed
print(after_warm_up(), keep_freed_memory(), after_warm_up())
"""


def run(**environment):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=variables | environment, capture_output=True, text=True, check=True
    )
    before, kept, after = done.stdout.split()
    return int(before), kept == "True", int(after)


def test_what_a_step_frees_is_there_for_the_next_one():
    before, kept, after = run()
    assert kept
    assert after < 100 < 10_000 < before


@pytest.mark.parametrize(
    "name",
    ["MALLOC_MMAP_THRESHOLD_", pytest.param("GLIBC_TUNABLES", marks=pytest.mark.long("starts a process of its own"))],
)
def test_what_the_environment_says_is_left_as_it_is(name):
    value = {"MALLOC_MMAP_THRESHOLD_": "131072", "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}[name]
    before, kept, after = run(**{name: value})
    assert not kept
    assert min(before, after) > 10_000
