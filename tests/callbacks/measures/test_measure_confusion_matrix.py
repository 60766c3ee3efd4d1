import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks.measures import confusion_matrix
from assay.callbacks.measures.classification_report import classification_report
from assay.callbacks.measures.confusion_matrix import Cells, Confusion, ConfusionMatrix, most_confused
from assay.callbacks.support.distributed import reduce_state

SHAPES = [(2, (50,)), (3, (50,)), (7, (9, 4, 5)), (40, (50,)), (5, (6, 3, 2, 2))]


def fill(measure, decided, target, cuts=(0, 1, 3)):
    for start, end in zip(cuts, [*cuts[1:], len(decided)], strict=True):
        measure.update(torch.as_tensor(decided[start:end]), torch.as_tensor(target[start:end]))
    return measure


def sk_rates(target, decided, labels):
    """The two rates of each label, by plain counting; None where they are undefined."""
    rates = []
    for label in labels:
        true, found = np.asarray(target) == label, np.asarray(decided) == label
        false_alarms = (found & ~true).sum() / (~true).sum() if (~true).any() else None
        rates.append((false_alarms, (true & ~found).sum() / true.sum() if true.any() else None))
    return rates


def mean_known(values):
    known = [value for value in values if value is not None]
    return np.mean(known) if known else np.nan


def check(found, expected):
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("classes", "shape"), SHAPES)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_counts_of_classes_equal_scikit_learn(classes, shape, dtype):
    decided, target = np.random.randint(0, classes, shape), np.random.randint(0, classes, shape)
    state = fill(ConfusionMatrix(1, classes), decided, target.astype(dtype)).state
    expected = sk.confusion_matrix(target.reshape(-1), decided.reshape(-1), labels=range(classes))
    assert state["counts"].dtype == torch.int64
    assert np.array_equal(state["counts"][0].numpy(), expected)
    assert state["outside"] == 0


@pytest.mark.parametrize("ignore_index", [-100, 255, 0])
def test_ignored_targets_do_not_count(ignore_index):
    decided, target = np.random.randint(0, 4, (8, 5, 5)), np.random.randint(0, 4, (8, 5, 5))
    target[np.random.rand(*target.shape) < 0.3] = ignore_index
    state = fill(ConfusionMatrix(1, 4, ignore_index), decided, target).state
    keep = target != ignore_index
    expected = sk.confusion_matrix(target[keep], decided[keep], labels=range(4))
    assert np.array_equal(state["counts"][0].numpy(), expected)
    assert state["outside"] == 0


def test_ignoring_a_negative_number_does_not_wrap_around_in_bytes():
    measure = ConfusionMatrix(1, 200, -100)
    measure.update(torch.tensor([156]), torch.tensor([156], dtype=torch.uint8))
    assert measure.state["counts"][0, 156, 156] == 1


@pytest.mark.parametrize("ignore_index", [None, 255])
def test_targets_that_are_no_class_are_counted_apart(ignore_index):
    measure = ConfusionMatrix(1, 3, ignore_index)
    measure.update(torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 3, -1, 255, 2]))
    assert measure.state["counts"].sum() == 2
    assert measure.state["outside"] == (3 if ignore_index is None else 2)


@pytest.mark.parametrize("shape", [(30, 4), (6, 3, 4, 5), (9, 1)])
@pytest.mark.parametrize("ignore_index", [None, -1])
def test_counts_of_labels_equal_scikit_learn(shape, ignore_index):
    decided, target = np.random.randint(0, 2, shape), np.random.randint(0, 2, shape)
    if ignore_index is not None:
        target[np.random.rand(*shape) < 0.3] = ignore_index
    counts = fill(ConfusionMatrix(shape[1], 2, ignore_index), decided, target).state["counts"]
    for label in range(shape[1]):
        true, found = target[:, label].reshape(-1), decided[:, label].reshape(-1)
        keep = true != -1
        assert np.array_equal(counts[label], sk.confusion_matrix(true[keep], found[keep], labels=[0, 1]))


@pytest.mark.parametrize(("groups", "shape"), [(1, (8,)), (1, (8, 4, 4)), (3, (8, 3)), (3, (8, 3, 4, 4))])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_an_update_reads_nothing_from_the_device(groups, shape, ignore_index):
    measure = ConfusionMatrix(groups, 2, ignore_index, device="meta")
    classes = torch.zeros(shape, dtype=torch.int64, device="meta")
    measure.update(classes, classes)
    assert all(part.device.type == "meta" for part in measure.state.values())


def reduced_share(rank, decided, target, size):
    """Count this rank's share, uneven on purpose: the last of several ranks has no batch."""
    measure = ConfusionMatrix(1, 5, 4)
    if size == 1 or rank < size - 1:
        measure.update(decided, target)
    return reduce_state(measure.state, measure.reductions)["counts"]


def test_counts_over_ranks_are_those_of_all_samples(ranks):
    size = ranks.size
    decided, target = torch.randint(0, 5, (50,)), torch.randint(0, 5, (50,))
    keep = target != 4
    expected = sk.confusion_matrix(target[keep], decided[keep], labels=range(5))
    for counts in ranks.run(reduced_share, decided, target, size):
        assert np.array_equal(counts[0].numpy(), expected)


def test_the_most_confused_pairs_are_those_of_a_plain_loop():
    counts = torch.randint(0, 6, (1, 9, 9))
    pairs = [(-int(counts[0, t, p]), t, p) for t in range(9) for p in range(9) if t != p and counts[0, t, p]]
    found = most_confused(counts, 20)
    assert [(-it.count, it.true, it.predicted) for it in found] == sorted(pairs)[:20]
    for it in found:
        assert it.share == pytest.approx(it.count / int(counts[0, it.true].sum()))


def test_the_most_confused_of_labels_name_the_label():
    counts = torch.tensor([[[5, 1], [0, 4]], [[5, 0], [3, 1]]])
    assert most_confused(counts, 20) == [Confusion(1, 1, 0, 3, 0.75), Confusion(0, 0, 1, 1, 1 / 6)]


@pytest.mark.parametrize("counts", [torch.zeros((1, 3, 3), dtype=torch.int64), torch.eye(3, dtype=torch.int64)[None]])
def test_where_nothing_is_confused_there_is_no_pair(counts):
    assert most_confused(counts, 20) == []


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize(("classes", "shape"), SHAPES)
@pytest.mark.parametrize("absent", [0, 2])
def test_the_report_of_classes_equals_scikit_learn(classes, shape, absent):
    highest = max(1, classes - absent)
    decided, target = np.random.randint(0, highest, shape).reshape(-1), np.random.randint(0, highest, shape).reshape(-1)
    decided[:3] = min(1, highest - 1)
    found = classification_report(fill(ConfusionMatrix(1, classes), decided, target).state["counts"], multilabel=False)
    expected = sk.classification_report(target, decided, output_dict=True, zero_division=0)
    check(found.accuracy, expected.pop("accuracy"))
    for name in ("macro avg", "weighted avg"):
        check(found.averages[name], expected.pop(name))
    for label in range(classes):
        nothing = {"precision": 0, "recall": 0, "f1-score": 0, "support": 0}
        check(found.classes[label], expected.get(str(label), nothing))
    rates = sk_rates(target, decided, range(classes))
    check(found.false_positive_rate, mean_known([rate for rate, _ in rates]))
    check(found.false_negative_rate, mean_known([rate for _, rate in rates]))


def test_micro_averages_of_classes_equal_scikit_learn():
    decided, target = np.random.randint(0, 4, 60), np.random.randint(0, 4, 60)
    found = classification_report(fill(ConfusionMatrix(1, 4), decided, target).state["counts"], multilabel=False)
    scores = sk.precision_recall_fscore_support(target, decided, average="micro")[:3]
    expected = dict(zip(("precision", "recall", "f1-score"), scores, strict=True))
    check(found.averages["micro avg"], {**expected, "support": 60})


@pytest.mark.parametrize("shape", [(40, 4), (7, 3)])
@pytest.mark.parametrize("empty", [False, True])
def test_the_report_of_labels_equals_scikit_learn(shape, empty):
    decided, target = np.random.randint(0, 2, shape), np.random.randint(0, 2, shape)
    decided[:, 1], target[:, 1] = 0, 0
    if empty:
        target[:] = 0
    counts = fill(ConfusionMatrix(shape[1], 2), decided, target).state["counts"]
    found = classification_report(counts, multilabel=True)
    expected = sk.classification_report(target, decided, output_dict=True, zero_division=0)
    for name in ("micro avg", "macro avg", "weighted avg"):
        check(found.averages[name], expected[name])
    for label in range(shape[1]):
        check(found.classes[label], expected[str(label)])
    assert found.accuracy is None
    rates = [sk_rates(target[:, label], decided[:, label], [1])[0] for label in range(shape[1])]
    check(found.false_positive_rate, mean_known([rate for rate, _ in rates]))
    assert found.false_negative_rate == pytest.approx(mean_known([rate for _, rate in rates]), nan_ok=True)


def test_the_rates_of_two_classes_are_those_of_class_one():
    decided, target = np.random.randint(0, 2, 50), np.random.randint(0, 2, 50)
    counts = fill(ConfusionMatrix(1, 2), decided, target).state["counts"]
    found = classification_report(counts, multilabel=False, binary=True)
    (tn, fp), (fn, tp) = sk.confusion_matrix(target, decided)
    check((found.false_positive_rate, found.false_negative_rate), (fp / (fp + tn), fn / (fn + tp)))


@pytest.mark.parametrize(("shape", "multilabel"), [((1, 3, 3), False), ((4, 2, 2), True)])
def test_without_a_batch_all_scores_are_zero_and_rates_unknown(shape, multilabel):
    found = classification_report(ConfusionMatrix(shape[0], shape[1]).state["counts"], multilabel=multilabel)
    assert all(value == 0 for row in [*found.classes, *found.averages.values()] for value in row.values())
    assert np.isnan([found.false_positive_rate, found.false_negative_rate]).all()


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_blocks_of_classes_hold_the_counts_of_theirs(every):
    counts = torch.randint(0, 4, (1, 7, 7), generator=torch.Generator().manual_seed(0))
    side = -(-7 // every)
    expected = torch.zeros(side, side, dtype=torch.int64)
    for true in range(7):
        for predicted in range(7):
            expected[true // every, predicted // every] += counts[0, true, predicted]
    assert torch.equal(Cells.of(counts).blocks(every), expected)
    assert most_confused(Cells.of(counts), 5) == most_confused(counts, 5)


@pytest.mark.parametrize("groups", [1, 3])
def test_totals_are_those_of_rows_and_columns_however_many_are_summed_at_a_time(groups, monkeypatch):
    counts = torch.randint(0, 9, (groups, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    for most in (1, 11, 30, 1000):
        monkeypatch.setattr(confusion_matrix, "_LARGE", most)
        assert confusion_matrix.true_totals(counts).tolist() == counts.long().sum(dim=2).tolist()
        assert confusion_matrix.predicted_totals(counts).tolist() == counts.long().sum(dim=1).tolist()


def test_many_classes_are_counted_in_32_bits_until_the_samples_might_not_fit(monkeypatch):
    monkeypatch.setattr(confusion_matrix, "_LARGE", 8)
    monkeypatch.setattr(confusion_matrix, "_MOST_IN_32_BITS", 5)
    measure = ConfusionMatrix(1, 3)
    for seen in (4, 8):
        measure.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 2, 1]))
        assert measure.state["counts"].dtype == (torch.int32 if seen == 4 else torch.int64)
        assert measure.state["counts"][0].tolist() == [[seen // 4, seen // 4, 0], [0, 0, seen // 4], [0, 0, seen // 4]]
    assert ConfusionMatrix(1, 2).state["counts"].dtype == torch.int64
