"""What was observed of a loader, through a checkpoint and back."""

import io
from collections import Counter, deque
from fractions import Fraction

import numpy as np
import pytest
import torch

from assay.callbacks.errors import UsageError
from assay.callbacks.host_copy import HostCopy
from assay.callbacks.loader_state import freeze, thaw
from assay.callbacks.measures.best_worst_samples import BestWorstSamples
from assay.callbacks.measures.confusion_matrix import ConfusionMatrix


def through_a_file(part):
    file = io.BytesIO()
    torch.save(freeze(part), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_containers_come_back_as_what_stands_in_their_place():
    part = {
        "counts": Counter("aab"),
        "last": deque([1, 2, 3], maxlen=3),
        "names": {"x", "y"},
        "pair": (1, None),
        "number": np.float32(0.5),
        7: [torch.arange(3), np.eye(2)],
    }
    like = {"counts": Counter(), "last": deque(maxlen=3), "names": set()}
    back = thaw(through_a_file(part), like)
    assert (back["counts"], back["last"], back["names"]) == (part["counts"], part["last"], part["names"])
    assert (type(back["counts"]), back["last"].maxlen) == (Counter, 3)
    assert (back["pair"], back["number"]) == ((1, None), 0.5)
    assert torch.equal(back[7][0], torch.arange(3)) and np.array_equal(back[7][1], np.eye(2))


def test_a_measure_goes_on_as_if_it_had_never_stopped():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=40).round(1).tolist()  # with equals
    straight, first, second = (BestWorstSamples(5) for _ in range(3))
    for measure, positions in ((straight, range(40)), (first, range(23))):
        for position in positions:
            measure.update([scores[position]], [position], [f"id-{position}"], lambda index: {"image": np.ones(3)})
    second = thaw(through_a_file(first), second)
    for position in range(23, 40):
        second.update([scores[position]], [position], [f"id-{position}"], lambda index: {"image": np.ones(3)})
    for kind in ("best", "worst"):
        expected, found = ([(it.score, it.sample_id) for it in getattr(m, kind)] for m in (straight, second))
        assert found == expected
    assert second.seen == 40


def test_tensors_go_to_the_device_of_those_that_they_replace():
    measure = ConfusionMatrix(1, 2, None, device=torch.device("cpu"))
    measure.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    back = thaw(through_a_file(measure), ConfusionMatrix(1, 2, None, device=torch.device("meta")))
    assert back.state["counts"].device.type == "meta"
    back = thaw(through_a_file(measure), ConfusionMatrix(1, 2, None, device=torch.device("cpu")))
    assert torch.equal(back.state["counts"], measure.state["counts"])


def test_a_copy_to_the_host_arrives_first():
    assert torch.equal(thaw(through_a_file(HostCopy(torch.arange(4)))).read(), torch.arange(4))


def test_what_a_checkpoint_cannot_hold_is_refused():
    with pytest.raises(TypeError, match=r"cannot be kept: it holds a fractions\.Fraction"):
        freeze({"share": [Fraction(1, 3)]})


@pytest.mark.parametrize(
    "name", ["os:system", "assay.callbacks.host_copy:np", "assay.callbacks.loader_state:UsageError"]
)
def test_only_classes_of_ours_are_made(name):
    with pytest.raises(UsageError, match=f"holds an object of '{name}', which is not one of assay.callbacks"):
        thaw({"object of assay": name, "state": {}})
