"""What was observed of a loader, through a checkpoint and back."""

import io
import pkgutil
from collections import Counter, deque
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
import torch

from assay.callbacks import measures
from assay.callbacks.errors import UsageError
from assay.callbacks.measures.best_worst_samples import BestWorstSamples
from assay.callbacks.measures.confusion_matrix import ConfusionMatrix
from assay.callbacks.support.checkpoint_values import from_plain, stored_as, stored_names, to_plain
from assay.callbacks.support.host_copy import HostCopy


def through_a_file(part):
    file = io.BytesIO()
    torch.save(to_plain(part), file)
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
    back = from_plain(through_a_file(part), like)
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
    second = from_plain(through_a_file(first), second)
    for position in range(23, 40):
        second.update([scores[position]], [position], [f"id-{position}"], lambda index: {"image": np.ones(3)})
    for kind in ("best", "worst"):
        expected, found = ([(it.score, it.sample_id) for it in getattr(m, kind)] for m in (straight, second))
        assert found == expected
    assert second.seen == 40


def test_tensors_go_to_the_device_of_those_that_they_replace():
    measure = ConfusionMatrix(1, 2, None, device=torch.device("cpu"))
    measure.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    back = from_plain(through_a_file(measure), ConfusionMatrix(1, 2, None, device=torch.device("meta")))
    assert back.state["counts"].device.type == "meta"
    back = from_plain(through_a_file(measure), ConfusionMatrix(1, 2, None, device=torch.device("cpu")))
    assert torch.equal(back.state["counts"], measure.state["counts"])


def test_a_copy_to_the_host_arrives_first():
    assert torch.equal(from_plain(through_a_file(HostCopy(torch.arange(4)))).read(), torch.arange(4))


def test_what_a_checkpoint_cannot_hold_is_refused():
    with pytest.raises(TypeError, match=r"cannot be kept: it holds a fractions\.Fraction"):
        to_plain({"share": [Fraction(1, 3)]})


@pytest.mark.parametrize(
    "name",
    ["os:system", "assay.callbacks.support.host_copy:np", "assay.callbacks.support.checkpoint_values:UsageError"],
)
def test_only_classes_of_ours_are_made(name):
    with pytest.raises(UsageError, match=f"holds an object of '{name}', which is not one of assay.callbacks"):
        from_plain({"object of assay": name, "state": {}})


# What checkpoints call the classes that they hold objects of. Runs are resumed by these: a name is added here, and
# neither changed nor taken away.
NAMES = {
    "BestWorstBatches", "BestWorstSamples", "BinnedScores", "Candidate", "ClassTotals", "ConfusionByGroup",
    "ConfusionMatrix", "HostCopy", "LabelOrder", "OptimizerSteps", "RegionCounts", "RegressionTotals",
    "Sample", "SampleChoice", "SmallestSamples", "WeightedMean",
}  # fmt: skip

# Those that came when names were stable already.
NEW_NAMES = {
    "BoxCounts", "ChosenSamples", "CollectedSamples", "DataStatistics", "KeptScores", "ReliabilityBins",
    "ThumbnailEncoder",
}  # fmt: skip

# What they called them before names were stable.
FORMER = {
    "host_copy": ["HostCopy"],
    "measures.augmentation_preview": ["LabelOrder"],
    "measures.best_worst_batches": ["BestWorstBatches", "Candidate"],
    "measures.best_worst_samples": ["BestWorstSamples", "Sample", "_Smallest"],
    "measures.binned_scores": ["BinnedScores"],
    "measures.class_metric": ["ClassTotals"],
    "measures.confusion_by_group": ["ConfusionByGroup"],
    "measures.confusion_matrix": ["ConfusionMatrix"],
    "measures.embeddings": ["SampleChoice"],
    "measures.optimizer_steps": ["OptimizerSteps"],
    "measures.region_counts": ["RegionCounts"],
    "measures.regression": ["RegressionTotals"],
    "measures.weighted_mean": ["WeightedMean"],
}


@pytest.fixture(scope="module", autouse=True)
def all_measures():
    for module in pkgutil.iter_modules(measures.__path__, f"{measures.__name__}."):
        import_module(module.name)
    import_module("assay.callbacks.history.collected")


def test_each_class_in_checkpoints_has_a_stable_name_of_its_own():
    assert set(stored_names()) == NAMES | NEW_NAMES
    assert len(set(stored_names().values())) == len(NAMES | NEW_NAMES)


def test_what_a_checkpoint_holds_names_no_module():
    plain = to_plain(BestWorstSamples(3))
    assert (plain["object of assay"], plain["state"]["_best"]["object of assay"]) == (
        "BestWorstSamples",
        "SmallestSamples",
    )


@pytest.mark.parametrize("name", [f"{module}:{kind}" for module, kinds in FORMER.items() for kind in kinds])
def test_an_object_that_is_named_by_its_former_module_is_made(name):
    made = from_plain({"object of assay": f"assay.callbacks.{name}", "state": {"seen": 3}})
    assert type(made) is stored_names()[name.split(":")[1].replace("_Smallest", "SmallestSamples")]
    assert made.seen == 3


def test_all_of_them_had_a_former_name():
    kinds = {kind.replace("_Smallest", "SmallestSamples") for of in FORMER.values() for kind in of}
    assert kinds == NAMES


def test_two_classes_cannot_have_one_name():
    with pytest.raises(ValueError, match="Other cannot be stored as 'HostCopy': HostCopy is"):

        @stored_as("HostCopy")
        class Other:
            pass


def test_a_subclass_needs_a_name_of_its_own():
    class Own(ConfusionMatrix):
        pass

    with pytest.raises(TypeError, match=r"cannot be kept: it holds a .*\.Own"):
        to_plain(Own(1, 2, None, device=torch.device("cpu")))
