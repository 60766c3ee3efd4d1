"""Targets are looked at where the loader gave them, and only where they are still what it gave."""

import pytest
import torch

from assay.callbacks.base.class_targets import ClassTargets
from assay.callbacks.support.host_targets import HostTargets, find_outside, shown

TAKEN = ClassTargets("", "multiclass", 3, None, "target")


@pytest.mark.parametrize("ignored", [255, 200, -1, -100, 20, None])
@pytest.mark.parametrize("seed", range(3))
def test_the_sample_is_the_one_that_a_plain_loop_finds(seed, ignored):
    chance = torch.Generator().manual_seed(seed)
    values = torch.tensor([*range(20), *([] if ignored is None else [ignored])])
    masks = values[torch.randint(0, len(values), (5, 16, 16), generator=chance)]
    taken = ClassTargets("", "multiclass", 20, ignored, "target")
    assert find_outside(masks.numpy(), taken) is None
    for wrong in (-7, 21, 150, 254, 256, 1000):
        broken = masks.clone()
        broken[3, 5, 5] = wrong
        assert find_outside(broken.numpy(), taken) == (3, wrong)


def test_what_was_sent_to_a_device_is_looked_at_as_the_loader_gave_it():
    given = torch.tensor([0, 5, 1])
    sent = {"target": given.clone()}
    targets = HostTargets({"target": given, "sample_id": torch.tensor([7, 8, 9])}, sent)
    assert targets.find("target", sent["target"], TAKEN) == ("sample_id 8", 5)


def test_what_a_callback_has_replaced_or_written_to_is_not_looked_at():
    given = torch.tensor([1, 3, 2])  # from 1 to 3, which a callback mends on the device
    sent = {"target": given.clone()}
    targets = HostTargets({"target": given}, sent)
    assert targets.find("target", sent["target"] - 1, TAKEN) is None
    sent["target"] -= 1
    assert targets.find("target", sent["target"], TAKEN) is None


def test_a_target_is_looked_at_once_for_the_same_values_and_again_for_others():
    target = torch.tensor([0, 2])
    targets = HostTargets({"target": target})
    assert targets.find("target", target, TAKEN) is None
    assert targets.find("target", target, ClassTargets("", "multiclass", 2, None, "target")) == (
        "sample 1 of the batch", 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(255, "255"), (1234567.0, "1234567"), (0.25, "0.25"), (float("inf"), "inf")]
)
def test_a_value_is_shown_as_it_is_written(value, text):
    assert shown(value) == text
