"""What several callbacks of a run are drawn from is counted once."""

import pytest
import torch
from kit import Named, fit
from torch import nn

from assay.callbacks import (
    BestWorstSamples,
    ClassificationReport,
    ConfusionMatrix,
    GradCAM,
    PRCurves,
    PredictionDistribution,
)
from assay.callbacks.base.shared_counts import first_alike
from assay.callbacks.classes.class_counts import ClassCounts
from assay.callbacks.classes.confusion_by_group import ConfusionByGroup
from assay.callbacks.classes.score_counts import ScoreCounts
from assay.callbacks.samples.sample_ranking import SampleRanking
from assay.runner import DictRunner


def train(folder, callbacks):
    items = [{"image": torch.rand(4), "target": i % 3} for i in range(20)]
    model = Named(nn.Linear(4, 3))
    fit(DictRunner(), model, items, callbacks, batch=8, epochs=2, logdir=str(folder))


@pytest.fixture
def counted(monkeypatch):
    """Note who counts, and how often."""
    callbacks = []
    for kind in (ClassCounts, ScoreCounts):

        def count(self, *parts, plain=kind.count):
            callbacks.append(self)
            plain(self, *parts)

        monkeypatch.setattr(kind, "count", count)
    return callbacks


@pytest.mark.parametrize(
    "kinds", [(ConfusionMatrix, ClassificationReport), (PRCurves, PredictionDistribution)], ids=["classes", "scores"]
)
def test_callbacks_that_count_the_same_count_once_and_write_the_same_as_alone(kinds, counted, tmp_path, read_events):
    first, second = (kind(num_classes=3) for kind in kinds)
    torch.manual_seed(1)
    train(tmp_path / "together", [first, second])
    assert set(counted) == {first}
    assert len(counted) == 2 * 2  # epochs and loaders: three small batches are counted together
    torch.manual_seed(1)
    train(tmp_path / "alone", [kinds[1](num_classes=3)])
    for loader in ("train", "valid"):
        together, alone = (read_events(tmp_path / name / loader) for name in ("together", "alone"))
        for tag in alone.Tags()["tensors"]:
            assert [e.tensor_proto for e in together.Tensors(tag)] == [e.tensor_proto for e in alone.Tensors(tag)]
        for tag in alone.Tags()["images"]:
            pictures = ([e.encoded_image_string for e in events.Images(tag)] for events in (together, alone))
            assert next(pictures) == next(pictures)


class Run:
    def __init__(self, *callbacks):
        self.callbacks = dict(enumerate(callbacks))


def test_what_counts_otherwise_is_not_shared():
    matrix = ConfusionMatrix(num_classes=3)
    others = [
        ClassificationReport(num_classes=4),
        ClassificationReport(num_classes=3, ignore_index=0),
        ClassificationReport(num_classes=3, output_key="aux"),
        ClassificationReport(num_classes=3, task="multilabel"),
        PRCurves(num_classes=3),
        PRCurves(num_classes=3, bins=64),
        ConfusionByGroup("camera", ["a", "b"], num_classes=3),
        ConfusionByGroup("city", ["a", "b"], num_classes=3),
        ConfusionByGroup("city", ["a", "b", "c"], num_classes=3),
    ]
    run = Run(matrix, *others)
    assert [first_alike(run, other, ClassCounts) for other in others] == others
    assert first_alike(run, matrix, ClassCounts) is matrix


def test_a_callback_outside_of_the_run_counts_for_itself():
    alone = ConfusionMatrix(num_classes=3)
    assert first_alike(Run(), alone, ClassCounts) is alone
    assert first_alike(Run(alone, ConfusionMatrix(num_classes=3)), alone, ClassCounts) is alone


class NoMeasure:
    """Counts nothing."""

    reductions = {"counts": "sum", "outside": "sum"}

    def __init__(self):
        self.state = {name: torch.zeros((), dtype=torch.int64) for name in self.reductions}

    def update(self, *parts):
        pass


class WithOwnMeasure(ClassCounts):
    def make_measure(self, device):
        return NoMeasure()

    def write(self, runner, writer, counts):
        self.written = int(counts.sum())


class WithOwnTake(WithOwnMeasure):
    make_measure = ClassCounts.make_measure

    def take(self, runner):
        output, target = super().take(runner)
        return output[:1], target[:1]


class WithOwnCount(WithOwnMeasure):
    make_measure = ClassCounts.make_measure

    def count(self, output, target):
        super().count(output[:0], target[:0])


class WithOwnObserve(WithOwnMeasure):
    make_measure = ClassCounts.make_measure

    def observe(self, runner):
        if runner.loader_batch_step == 1:
            super().observe(runner)


class WithOwnScores(ScoreCounts):
    def count(self, output, target):
        super().count(output[:0], target[:0])

    write = WithOwnMeasure.write


@pytest.mark.parametrize(
    ("kind", "like", "count"),
    [
        (WithOwnMeasure, ConfusionMatrix, 0),
        (WithOwnTake, ConfusionMatrix, 3),  # of three batches
        (WithOwnCount, ConfusionMatrix, 0),
        (WithOwnObserve, ConfusionMatrix, 8),
        (WithOwnScores, PRCurves, 0),
    ],
)
def test_a_subclass_that_counts_otherwise_gets_its_own_counts(kind, like, count, tmp_path):
    own = kind(num_classes=3)
    train(tmp_path, [like(num_classes=3), own])
    assert own.written == count


class Group(ClassCounts):
    """Takes an argument of its own, which decides what it counts, and keeps it under another name."""

    def __init__(self, key):
        super().__init__(num_classes=3)
        self.hidden = key

    def take(self, runner):
        return super().take(runner)


def test_two_that_hide_what_they_were_given_do_not_share():
    first, second = Group("a"), Group("b")
    assert first_alike(Run(first, second), second, ClassCounts) is second


class Threshold(ClassCounts):
    """Takes arguments of its own and keeps them under their names."""

    def __init__(self, low, weights):
        super().__init__(num_classes=3)
        self.low, self.weights = low, weights

    def make_measure(self, device):
        return super().make_measure(device)


def test_two_of_a_kind_share_where_what_they_were_given_is_the_same():
    weights = torch.ones(3)
    first, same, other, copied = (
        Threshold(*given) for given in ((0.1, weights), (0.1, weights), (0.2, weights), (0.1, weights.clone()))
    )
    run = Run(first, same, other, copied)
    assert [first_alike(run, it, ClassCounts) for it in (first, same, other, copied)] == [first, first, other, copied]


class ByAnotherScore(BestWorstSamples):
    def _scores(self, runner, parts):
        return super()._scores(runner, parts)


class ByAnotherLoss(BestWorstSamples):
    def _losses(self, runner, output, target, name):
        return super()._losses(runner, output, target, name) + 1


def test_rankings_share_where_samples_are_chosen_alike():
    first = BestWorstSamples("loss")
    alike = [GradCAM("loss"), BestWorstSamples("loss", score_name="surprise"), BestWorstSamples("loss", prefix="more")]
    others = [
        GradCAM("other"),
        BestWorstSamples("loss", minimize=False),
        BestWorstSamples("loss", k_samples=3),
        BestWorstSamples("loss", target_key="truth"),
        BestWorstSamples("loss", task="detection"),
        BestWorstSamples("loss", criterion_key="first"),
        ByAnotherScore("loss"),
        ByAnotherLoss("loss"),
    ]
    run = Run(first, *alike, *others)
    assert [first_alike(run, it, SampleRanking) for it in alike] == [first] * 3
    assert [first_alike(run, it, SampleRanking) for it in others] == others


def test_only_the_base_of_a_kind_makes_its_key():
    def below(kind):
        return {sub for direct in kind.__subclasses__() for sub in (direct, *below(direct))}

    kinds = below(ClassCounts) | below(SampleRanking)
    assert {ConfusionMatrix, PRCurves, ConfusionByGroup, BestWorstSamples, GradCAM} <= kinds
    assert [kind for kind in kinds if "count_key" in vars(kind)] == []
