"""Filters, orders and counts against plain loops over rows."""

import math

import numpy as np
import pytest
import torch
from made_samples import logits_of, write_findings, write_groups, write_samples, write_thumbnails
from torchmetrics.functional.classification import binary_precision_recall_curve

from assay.callbacks import UsageError
from assay.callbacks.gallery.aggregates import MOST_CLASSES, MOST_POINTS, aggregate
from assay.callbacks.gallery.compare import compare
from assay.callbacks.gallery.documents import table_document
from assay.callbacks.gallery.query import facets, query, rows_that_fit
from assay.callbacks.gallery.run_samples import RunSamples
from assay.callbacks.history.suspects import SUSPECT_KINDS

COUNT, CLASSES = 200, 4
IDS = [f"Bild-{number:03}-{'Größe' if number % 3 else 'SMALL'}.png" for number in range(COUNT)]
MARKED = {IDS[3]: "skip", IDS[7]: "wrong_label", IDS[11]: "skip"}
UNKNOWN = {"float32": math.isnan, "int32": lambda value: value == -1, "uint8": lambda value: value == 255}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    folder = write_samples(run, count=COUNT, classes=CLASSES, ids=IDS)
    draw = np.random.default_rng(3)
    members = {name: set(draw.choice(COUNT, 20).tolist()) for name in ("stuck", "easy", "forgotten")}
    suspects = draw.permutation(COUNT)[:15].tolist()
    # One is of a kind that a later version may write.
    kinds = dict(zip(suspects, ["label"] * 9 + ["duplicate"] * 3 + ["region", "missing_box", "later"], strict=True))
    write_groups(folder, COUNT, [(row, 1) for row in suspects], kinds, **members)
    write_findings(run, twice=("valid", [IDS[3], IDS[5]]), dark=("valid", [IDS[5], IDS[9]]))
    write_thumbnails(folder, [(2, "image", b"")])
    return RunSamples(run)


@pytest.fixture(scope="module")
def table(run):
    return run.table("valid")


@pytest.fixture(scope="module")
def rows(table):
    """The table as one dict per sample, with None for what is not known."""
    found = []
    for row in range(len(table)):
        one = {"id": table.ids[row].as_py(), "findings": table.findings.get(row, ())}
        for name, values in table.columns.items():
            value = values[row].item()
            one[name] = None if UNKNOWN[values.dtype.name](value) else value
        found.append(one)
    return found


FILTERS = [
    ({}, lambda row: True),
    ({"text": "grösse"}, lambda row: False),
    ({"text": "GRÖSSE"}, lambda row: False),
    ({"text": "GRÖ"}, lambda row: "Größe" in row["id"]),
    ({"text": "small"}, lambda row: "SMALL" in row["id"]),
    ({"text": "\ud800"}, lambda row: False),
    ({"text": ""}, lambda row: True),
    ({"target": [1, 3]}, lambda row: row["target"] in (1, 3)),
    ({"target": [], "prediction": [2, 99, -1]}, lambda row: row["prediction"] == 2),
    ({"correct": "right"}, lambda row: row["target"] == row["prediction"]),
    ({"correct": "wrong"}, lambda row: row["target"] != row["prediction"]),
    ({"groups": ["suspect"]}, lambda row: row["suspect_rank"] is not None),
    ({"groups": ["stuck", "easy"]}, lambda row: row["stuck"] or row["easy"]),
    ({"kinds": ["label"]}, lambda row: row["suspect_kind"] == 0),
    ({"kinds": ["duplicate", "false_box", "region"]}, lambda row: row["suspect_kind"] in (7, 3)),
    ({"findings": ["twice"]}, lambda row: row["id"] in (IDS[3], IDS[5])),
    ({"findings": ["twice", "dark"]}, lambda row: row["id"] in (IDS[3], IDS[5], IDS[9])),
    ({"marks": ["skip"]}, lambda row: row["id"] in (IDS[3], IDS[11])),
    ({"ids": [IDS[4], "missing", "\ud800"]}, lambda row: row["id"] == IDS[4]),
    ({"ranges": {"loss": [0.2, 0.9]}}, lambda row: 0.2 <= row["loss"] <= 0.9),
    ({"ranges": {"suspect_rank": [None, 5]}}, lambda row: row["suspect_rank"] is not None and row["suspect_rank"] <= 5),
    ({"ranges": {"suspect_score": [0, None]}}, lambda row: row["suspect_score"] is not None),
    ({"ranges": {"loss": None, "aum": [-1, 1e300]}}, lambda row: row["aum"] >= -1),
    (
        {"text": "png", "correct": "wrong", "groups": ["suspect", "stuck", "forgotten"], "ranges": {"margin": [-2, 0]}},
        lambda row: (
            row["target"] != row["prediction"]
            and (row["suspect"] == 1 or row["stuck"] == 1 or row["forgotten"] == 1)
            and -2 <= row["margin"] <= 0
        ),
    ),
]


@pytest.mark.parametrize(("filters", "fits"), FILTERS)
def test_filters_find_what_a_loop_finds(table, rows, filters, fits):
    expected = [row["index"] for row in rows if fits(row)]
    assert np.flatnonzero(rows_that_fit(table, filters, MARKED)).tolist() == expected
    total, found = query(table, {"filters": filters, "limit": 7, "offset": 2}, MARKED)
    assert (total, found.tolist()) == (len(expected), expected[2:9])


CHOICES = {
    "correct": ["right", "wrong"],
    "groups": ["suspect", "stuck", "newly_wrong", "forgotten", "unstable", "easy"],
    "kinds": [*SUSPECT_KINDS],
    "target": range(CLASSES),
    "prediction": range(CLASSES),
    "findings": ["twice", "dark", "other"],
    "marks": ["skip", "wrong_label", "look_again"],
}


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"correct": "wrong", "target": [1, 2]},
        {"groups": ["stuck"], "findings": ["twice"], "text": "png"},
        {"marks": ["skip"], "prediction": [0, 1, 2]},
    ],
)
def test_each_choice_has_the_count_of_the_query_that_makes_it(table, filters):
    found = facets(table, filters, MARKED)
    assert (found["total"], found["all"]) == (rows_that_fit(table, filters, MARKED).sum(), COUNT)
    for name, choices in CHOICES.items():
        counts = dict(map(tuple, found[name]))
        for choice in choices:
            chosen = filters | {name: choice if name == "correct" else [choice]}
            assert counts.get(choice, 0) == rows_that_fit(table, chosen, MARKED).sum(), (name, choice)
        assert set(counts) <= set(choices)


@pytest.mark.parametrize("descending", [False, True])
def test_every_column_sorts_as_a_stable_sort_does(table, rows, descending):
    for name in (*table.columns, "id"):
        known = sorted((row for row in rows if row[name] is not None), key=lambda row: row["index"])
        known.sort(key=lambda row: row[name], reverse=descending)
        unknown = [row["index"] for row in rows if row[name] is None]
        _, found = query(table, {"sort": name, "descending": descending, "limit": COUNT})
        assert found.tolist() == [row["index"] for row in known] + unknown, name


def test_sorting_knows_negative_numbers_zeros_and_infinity(table):
    values = np.full(COUNT, np.nan, np.float32)
    values[:8] = [0.0, -0.0, -1.0, np.inf, -np.inf, 2.0, -3.5, 1e-45]
    made = type(table)("", "", None, None, 1, (1,), table.ids, {"index": table.columns["index"], "loss": values})
    assert made.order("loss", descending=False)[:9].tolist() == [4, 6, 2, 0, 1, 7, 5, 3, 8]
    assert made.order("loss", descending=True)[:9].tolist() == [3, 5, 7, 0, 1, 2, 6, 4, 8]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"filter": {}}, "unknown part of a query 'filter'; did you mean 'filters'"),
        ({"filters": {"txt": "a"}}, "unknown filter 'txt'; did you mean 'text'"),
        ({"filters": {"text": 3}}, "text must be a text, got 3"),
        ({"filters": {"target": ["a"]}}, "target must be a list of class numbers, got list of 1"),
        ({"filters": {"target": [True]}}, "target must be a list of class numbers"),
        ({"filters": {"correct": "yes"}}, "correct must be 'right' or 'wrong', got 'yes'"),
        ({"filters": {"groups": ["stck"]}}, "unknown group 'stck'; did you mean 'stuck'"),
        ({"filters": {"kinds": ["box"]}}, "unknown kind of suspects 'box'"),
        ({"filters": {"marks": "skip"}}, "marks must be a list of texts, got 'skip'"),
        ({"filters": {"ranges": {"los": [0, 1]}}}, "unknown column 'los'; did you mean 'loss'"),
        ({"filters": {"ranges": {"loss": [0]}}}, "ranges.loss must be a list of a low and a high number"),
        ({"filters": {"ranges": {"loss": ["0", 1]}}}, "ranges.loss must be a list of a low and a high number"),
        ({"filters": {"ranges": {"loss": [10**400, None]}}}, "ranges.loss must be of numbers that are at most"),
        ({"filters": {"ranges": [1]}}, "ranges must be an object of columns and bounds"),
        ({"filters": {"class_score": {"class": 9, "range": [0, 1]}}}, "class must be 0 to 3, got 9"),
        ({"filters": {"class_score": {"class": 1}}}, "class_score must be an object with 'class' and 'range'"),
        ({"sort": "size"}, "unknown column 'size'"),
        ({"sort": ["loss"]}, "sort must be the name of a column"),
        ({"limit": 10_001}, "limit must be a whole number of 0 to 10000, got 10001"),
        ({"offset": -1}, "offset must be a whole number of at least 0, got -1"),
        ({"offset": 1.5}, "offset must be a whole number of at least 0, got 1.5"),
    ],
)
def test_what_is_wrong_with_a_query_is_said_in_a_line(table, wanted, message):
    with pytest.raises(UsageError) as caught:
        query(table, wanted)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_confusion_counts_each_pair(table, rows):
    found = aggregate(table, "confusion", {}, {"groups": ["stuck", "easy"]})
    inside = [row for row in rows if row["stuck"] or row["easy"]]
    assert found["rows"] == found["columns"] == list(range(CLASSES))
    for target in range(CLASSES):
        for prediction in range(CLASSES):
            expected = sum((row["target"], row["prediction"]) == (target, prediction) for row in inside)
            assert found["counts"][target][prediction] == expected
            cell = {"target": [target], "prediction": [prediction], "groups": ["stuck", "easy"]}
            assert rows_that_fit(table, cell).sum() == expected
    assert (found["left_out"], found["outside"]) == (0, 0)


def test_of_many_classes_those_with_the_most_errors_are_shown(tmp_path):
    write_samples(tmp_path, count=3000, classes=120, epochs=1)
    found = aggregate(RunSamples(tmp_path).table("valid"), "confusion")
    (logits,), target = logits_of(3000, 120, 1)
    prediction, errors = logits.argmax(axis=1), [0] * 120
    for own, other in zip(target.tolist(), prediction.tolist(), strict=True):
        if own != other:
            errors[own] += 1
            errors[other] += 1
    shown = sorted(sorted(range(120), key=lambda number: (-errors[number], number))[:MOST_CLASSES])
    assert (found["rows"], found["left_out"]) == (shown, 70)
    pairs = list(zip(target.tolist(), prediction.tolist(), strict=True))
    assert found["counts"] == [[pairs.count((row, column)) for column in shown] for row in shown]
    assert found["outside"] == 3000 - sum(map(sum, found["counts"]))


@pytest.mark.parametrize(
    ("column", "bins"), [("probability", 20), ("loss", 7), ("margin", 400), ("learned", 20), ("suspect_rank", 4)]
)
def test_a_distribution_counts_each_sample_once_and_its_bins_filter_as_they_count(table, rows, column, bins):
    found = aggregate(table, "distribution", {"column": column, "bins": bins}, {"target": [0, 1, 2]})
    assert found["edges"] == sorted(set(found["edges"]))
    inside = [row for row in rows if row["target"] < 3]
    known = [row for row in inside if row[column] is not None]
    assert sum(found["right"]) + sum(found["wrong"]) == len(known)
    assert found["outside"] == len(inside) - len(known)
    for number, (low, high) in enumerate(zip(found["edges"], found["edges"][1:], strict=False)):
        is_last = number == len(found["edges"]) - 2
        expected = [row for row in known if low <= row[column] < high or (is_last and row[column] == high)]
        assert found["right"][number] == sum(row["target"] == row["prediction"] for row in expected)
        assert found["wrong"][number] == sum(row["target"] != row["prediction"] for row in expected)
        cell = {"target": [0, 1, 2], "ranges": {column: found["ranges"][number]}}
        assert np.flatnonzero(rows_that_fit(table, cell)).tolist() == [row["index"] for row in expected]


def test_a_scatter_counts_each_sample_once_and_its_cells_filter_as_they_count(table, rows):
    found = aggregate(table, "scatter", {"x": "mean_el2n", "y": "confidence", "bins": 6})
    assert sum(map(sum, found["counts"])) == COUNT
    for y, (low_y, high_y) in enumerate(found["y_ranges"]):
        for x, (low_x, high_x) in enumerate(found["x_ranges"]):
            expected = [
                row["index"] for row in rows
                if low_y <= row["confidence"] <= high_y and low_x <= row["mean_el2n"] <= high_x
            ]  # fmt: skip
            assert found["counts"][y][x] == len(expected)
            cell = {"ranges": {"confidence": [low_y, high_y], "mean_el2n": [low_x, high_x]}}
            assert np.flatnonzero(rows_that_fit(table, cell)).tolist() == expected


def test_values_that_are_not_numbers_or_all_the_same_have_bins_too(table):
    values = np.full(COUNT, 3.0, np.float32)
    columns = {"index": table.columns["index"], "same": values, "none": values * np.nan, "far": values.copy()}
    columns["far"][:2] = [np.inf, -np.inf]
    made = type(table)("", "", None, None, 1, (1,), table.ids, columns)
    for name, outside in (("same", 0), ("none", COUNT), ("far", 2)):
        found = aggregate(made, "distribution", {"column": name})
        assert (sum(found["unknown"]), found["outside"]) == (COUNT - outside, outside)
        assert sum(found["right"]) + sum(found["wrong"]) == 0


def points_of(scores, is_positive):
    """Return precision and recall by threshold, by torchmetrics."""
    curve = binary_precision_recall_curve(torch.tensor(scores), torch.tensor(is_positive).long())
    return {t: (p, r) for p, r, t in zip(*(one.tolist() for one in curve), strict=False)}


@pytest.mark.parametrize("number", range(CLASSES))
def test_precision_and_recall_of_a_class_over_the_epochs(run, table, rows, number):
    found = aggregate(table, "precision_recall", {"class": number})
    scores = [run.sample("valid", row["index"])["mean_probability"][number] for row in rows]
    expected = points_of(scores, [row["target"] == number for row in rows])
    assert found["over_epochs"]
    assert 2 < len(found["points"]) <= MOST_POINTS
    thresholds = [point["threshold"] for point in found["points"]]
    assert thresholds == sorted(set(thresholds), reverse=True)
    for point in found["points"]:
        assert (point["precision"], point["recall"]) == pytest.approx(expected[point["threshold"]], rel=1e-6)
        above = rows_that_fit(table, {"class_score": {"class": number, "range": [point["threshold"], None]}})
        assert np.flatnonzero(above).tolist() == [
            row for row, score in enumerate(scores) if score >= point["threshold"]
        ]  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_precision_and_recall_of_a_binary_task_in_the_epoch(tmp_path, number):
    write_samples(tmp_path, count=90, classes=2, epochs=2, task="binary")
    table = RunSamples(tmp_path).table("valid", 1)
    found = aggregate(table, "precision_recall", {"class": number})
    (logits, _), target = logits_of(90, 2, 2)
    scores = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[:, number]
    assert not found["over_epochs"]
    assert (len(found["points"]), found["positives"]) == (90, (target == number).sum())
    expected = points_of(scores.tolist(), (target == number).tolist())
    by_threshold = sorted(expected.items(), reverse=True)
    for point, (threshold, values) in zip(found["points"], by_threshold, strict=False):
        assert point["threshold"] == pytest.approx(threshold, abs=1e-4)
        assert (point["precision"], point["recall"]) == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("confusions", {}, "unknown kind of aggregate 'confusions'; did you mean 'confusion'"),
        ("distribution", {"column": "loss", "bin": 3}, "unknown option 'bin' of distribution; did you mean 'bins'"),
        ("distribution", {"column": "loss", "bins": 0}, "bins must be a whole number of 1 to 400, got 0"),
        ("distribution", {"column": ["loss"]}, "column must be the name of a column"),
        ("scatter", {"x": "variabilty"}, "unknown column 'variabilty'; did you mean 'variability'"),
        ("precision_recall", {}, "precision_recall needs the option 'class'"),
        ("precision_recall", {"class": "1"}, "class must be a class number, got '1'"),
        ("precision_recall", {"class": 4}, "class must be 0 to 3, got 4"),
    ],
)
def test_what_is_wrong_with_an_aggregate_is_said_in_a_line(table, kind, options, message):
    with pytest.raises(UsageError) as caught:
        aggregate(table, kind, options)
    assert message in str(caught.value)


def test_two_runs_are_compared_by_ids_and_by_names_of_classes(run, tmp_path):
    names = ["class 3", "class 2", "class 1", "another"]
    ids = [IDS[5], "new", IDS[2], *(f"more-{number}" for number in range(20))]
    write_samples(tmp_path, count=23, classes=CLASSES, ids=ids, names=names, epochs=1, seed=9)
    table, other = run.table("valid"), RunSamples(tmp_path).table("valid")
    both = compare(table, other)
    assert both.ids.to_pylist() == [IDS[2], IDS[5]]
    assert both.columns["index"].tolist() == [2, 5]
    assert both.columns["index.other"].tolist() == [2, 0]
    assert both.columns["loss"].tolist() == table.columns["loss"][[2, 5]].tolist()
    assert both.columns["loss.other"].tolist() == other.columns["loss"][[2, 0]].tolist()
    renumbered = {0: 3, 1: 2, 2: 1, 3: -1}
    assert both.columns["target.other"].tolist() == [
        renumbered[one] for one in other.columns["target"][[2, 0]].tolist()
    ]
    assert both.findings == {1: ("twice", "dark")}
    total, rows = query(both, {"sort": "loss.other", "descending": True})
    assert (total, both.columns["loss.other"][rows].tolist()) == (2, sorted(both.columns["loss.other"], reverse=True))
    assert table_document(both)["columns"]["findings"]["data"] == ["", "twice dark"]
