import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks.measures.class_metric import CLASS_METRICS, ClassMetrics, ClassTotals

REFERENCES = {
    "dice": sk.f1_score,
    "f1": sk.f1_score,
    "iou": sk.jaccard_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
}


@pytest.fixture(autouse=True, params=["as a CPU does", "as a GPU does"])
def counts(request, monkeypatch):
    """Count in both ways, which have to come to the same numbers."""
    if request.param == "as a GPU does":
        monkeypatch.setattr("assay.callbacks.measures.class_metric.is_on_cpu", lambda tensor: False)


def reference(name, task, decided, target):
    if name == "accuracy":
        return (np.asarray(target) == np.asarray(decided)).mean()
    if name == "balanced_accuracy":
        return sk.balanced_accuracy_score(target, decided)
    average = "binary" if task == "binary" else "macro"
    return REFERENCES[name](target, decided, average=average, zero_division=0)


class Metric:
    """One metric by name, with its totals."""

    def __init__(self, name, task, classes, ignored=None, device="cpu"):
        self.totals, self.metrics = ClassTotals(task, classes, ignored, device), ClassMetrics([name], task, device)

    def update(self, decided, target):
        return self.metrics.compute(self.totals.update(decided, target))[0]

    def compute(self):
        return self.metrics.compute(self.totals.state["totals"])[0]


def over_batches(metric, decided, target):
    for start, end in ((0, 5), (5, 6), (6, 20), (20, len(target))):
        metric.update(torch.as_tensor(decided[start:end]), torch.as_tensor(target[start:end]))
    return metric.compute().item()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.parametrize("name", CLASS_METRICS)
@pytest.mark.parametrize("classes", [3, 7, 40])
def test_multiclass_equals_scikit_learn_even_where_classes_are_missing(name, classes):
    decided, target = np.random.randint(0, classes, 50), np.random.randint(0, max(2, classes - 2), 50)
    target[::2] = decided[::2] % max(2, classes - 2)
    found = over_batches(Metric(name, "multiclass", classes), decided, target)
    assert found == pytest.approx(reference(name, "multiclass", decided, target), rel=1e-12)


@pytest.mark.parametrize("name", CLASS_METRICS)
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_])
def test_binary_equals_scikit_learn_for_targets_of_any_type(name, dtype):
    decided, target = np.random.randint(0, 2, 50), np.random.randint(0, 2, 50)
    found = over_batches(Metric(name, "binary", 2), decided, target.astype(dtype))
    assert found == pytest.approx(reference(name, "binary", decided, target), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in CLASS_METRICS if name != "balanced_accuracy"])
def test_multilabel_equals_scikit_learn(name):
    decided, target = np.random.randint(0, 2, (50, 4)), np.random.randint(0, 2, (50, 4))
    found = over_batches(Metric(name, "multilabel", 4), decided, target)
    assert found == pytest.approx(reference(name, "multilabel", decided, target), rel=1e-12)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_pixels_count_as_samples(name):
    decided, target = torch.randint(0, 3, (6, 4, 5)), torch.randint(0, 3, (6, 4, 5))
    metric = Metric(name, "multiclass", 3)
    metric.update(decided, target)
    expected = reference(name, "multiclass", decided.flatten().numpy(), target.flatten().numpy())
    assert metric.compute().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", CLASS_METRICS)
@pytest.mark.parametrize(
    ("task", "ignored"), [("multiclass", 255), ("multiclass", -1), ("binary", 255), ("multilabel", -1)]
)
def test_targets_to_ignore_are_left_out(name, task, ignored):
    if (name, task) == ("balanced_accuracy", "multilabel"):
        pytest.skip("it has no meaning there")
    classes = 3 if task == "multiclass" else 2
    decided, target = np.random.randint(0, classes, (40, 3)), np.random.randint(0, classes, (40, 3))
    wanted = np.random.random((40, 3)) < 0.7
    found = over_batches(
        Metric(name, task, 2 if task == "binary" else 3, ignored), decided, np.where(wanted, target, ignored)
    )
    if task != "multilabel":
        expected = reference(name, task, decided[wanted], target[wanted])
    elif name == "accuracy":
        expected = (decided == target)[wanted].mean()
    else:
        columns = [(decided[of, i], target[of, i]) for i, of in enumerate(wanted.T)]
        expected = np.mean([REFERENCES[name](true, found, zero_division=0) for found, true in columns])
    assert found == pytest.approx(expected, rel=1e-12)


def test_pixels_of_labels_count_as_samples():
    decided, target = torch.randint(0, 2, (6, 3, 4, 5)), torch.randint(0, 2, (6, 3, 4, 5))
    metric = Metric("iou", "multilabel", 3)
    metric.update(decided, target)
    rows = [part.permute(0, 2, 3, 1).reshape(-1, 3).numpy() for part in (decided, target)]
    assert metric.compute().item() == pytest.approx(reference("iou", "multilabel", *rows), rel=1e-12)


def test_a_class_that_is_never_predicted_has_precision_zero():
    metric = Metric("precision", "multiclass", 4)
    metric.update(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 1, 1]))
    assert metric.compute().item() == 0.25


def test_before_the_first_batch_the_mean_over_classes_is_nan():
    assert Metric("f1", "multiclass", 3).compute().isnan()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_the_totals_of_a_batch_are_its_own_and_those_of_all_are_their_sum(task):
    totals, parts = ClassTotals(task, 2), []
    for _ in range(3):
        shape = (7, 2) if task == "multilabel" else (7,)
        decided, target = torch.randint(0, 2, shape), torch.randint(0, 2, shape)
        part = totals.update(decided, target)
        parts.append(part.clone())
        of_class_1 = (decided[:, 1], target[:, 1]) if task == "multilabel" else (decided, target)
        found, true = (values.tolist() for values in of_class_1)
        assert part[0, 1] == sum(a == b == 1 for a, b in zip(found, true, strict=True))
        assert part[1, 1] == sum(found) and part[2, 1] == sum(true)
    assert torch.equal(totals.state["totals"], sum(parts))


@pytest.mark.parametrize("name", CLASS_METRICS)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_an_update_reads_nothing_from_the_device(name, task):
    metric = Metric(name, task, 2, device="meta")
    classes = torch.zeros(8, dtype=torch.int64, device="meta")
    assert metric.update(classes, classes).device.type == "meta"
