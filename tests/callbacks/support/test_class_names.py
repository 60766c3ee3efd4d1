import pytest

from assay.callbacks import (
    AugmentationPreview,
    BestWorstBatches,
    BestWorstSamples,
    BoxConfusion,
    BoxCurves,
    BoxMetrics,
    ClassificationReport,
    ConfusionMatrix,
    Embeddings,
    GradCAM,
    Metrics,
    NonFiniteGuard,
    PRCurves,
    PredictionDistribution,
    UsageError,
    classification_diagnostics,
    detection_diagnostics,
)
from assay.callbacks.classes.confusion_by_group import ConfusionByGroup
from assay.callbacks.support.class_names import check_names
from assay.runner.prediction import BoxPrediction, ClassPrediction

BUILDERS = [
    AugmentationPreview, BestWorstBatches, BestWorstSamples, BoxConfusion, BoxCurves, BoxMetrics, ClassificationReport,
    ConfusionMatrix, Embeddings, GradCAM, Metrics, NonFiniteGuard, PRCurves, PredictionDistribution,
    classification_diagnostics, detection_diagnostics,
    lambda class_names: ConfusionByGroup("g", ["a"], class_names=class_names),
    lambda class_names: ClassPrediction(class_names=class_names, transform=dict),
    lambda class_names: BoxPrediction(class_names=class_names, transform=dict),
]  # fmt: skip


@pytest.mark.parametrize("build", BUILDERS)
def test_two_classes_of_one_name_are_refused_with_their_places(build):
    with pytest.raises(UsageError, match=r"class_names must have a name of its own.*'cat' at 0 and at 2"):
        build(class_names=["cat", "dog", "cat"])
    build(class_names=["cat", "dog", "owl"])


def test_groups_have_names_of_their_own_too():
    with pytest.raises(UsageError, match=r"group_names must have a name of its own.*'1' at 0 and at 1"):
        ConfusionByGroup("g", ["1", 1], num_classes=2)


def test_one_text_is_no_list_of_names():
    with pytest.raises(UsageError, match="class_names must be a list of names, one per class, got the text 'cat'"):
        check_names("cat")


def test_the_placeholders_of_torchvision_get_their_numbers():
    assert check_names(["person", "N/A", "hat", "N/A"]) == ["person", "N/A 1", "hat", "N/A 3"]
    assert check_names(["person", "N/A"]) == ["person", "N/A"]
    assert check_names(None) is None
