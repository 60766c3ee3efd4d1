"""The generators go back to where they were, also by way of a file."""

import random

import numpy as np
import torch

from assay.callbacks.support.rng import RngState

CPU = torch.device("cpu")


def draw():
    return random.random(), np.random.normal(), torch.rand(3).tolist()


def test_what_was_drawn_is_drawn_again_and_the_generators_stand_as_before():
    np.random.normal()  # NumPy keeps the second of a pair
    state = RngState.take(CPU)
    first, second = draw(), draw()
    with state.again():
        assert draw() == first
    third = draw()
    state.restore()
    assert [draw(), draw(), draw()] == [first, second, third]


def test_a_state_comes_back_from_a_file_of_plain_types(tmp_path):
    np.random.normal()
    torch.save(RngState.take(CPU).portable(), tmp_path / "state.pt")
    expected = draw()
    draw()
    RngState.from_portable(torch.load(tmp_path / "state.pt", weights_only=True), CPU).restore()
    assert draw() == expected


def test_the_state_of_a_gpu_is_left_out_on_a_cpu():
    portable = {**RngState.take(CPU).portable(), "cuda": torch.zeros(16, dtype=torch.uint8)}
    assert RngState.from_portable(portable, CPU).cuda is None
