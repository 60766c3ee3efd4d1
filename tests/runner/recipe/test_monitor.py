"""The metric by which epochs are compared."""

import math

import pytest

from assay.runner import Monitor, UsageError
from assay.runner.recipe.monitor import parse_monitors


def history(*values):
    return {epoch: {"valid": {"loss": value}} for epoch, value in enumerate(values, start=1)}


def test_a_monitor_is_read_from_loader_metric_and_direction():
    assert Monitor.parse("valid/loss:min") == Monitor("valid", "loss", True)
    assert Monitor.parse("valid/accuracy:max") == Monitor("valid", "accuracy", False)
    assert Monitor.parse("valid/f1/a:b:max") == Monitor("valid", "f1/a:b", False)


def test_its_name_is_loader_and_metric():
    assert Monitor.parse("valid/f1/cat:max").name == "valid/f1/cat"


@pytest.mark.parametrize("text", ["", "loss", "loss:min", "valid/loss", "valid/loss:low", "/loss:min", "valid/:max"])
def test_what_does_not_read_so_is_refused(text):
    with pytest.raises(UsageError, match=rf"monitor must read LOADER/METRIC:min or LOADER/METRIC:max, got '{text}'"):
        Monitor.parse(text)


@pytest.mark.parametrize(("minimize", "ranking"), [(True, [3, 2, 4, 1]), (False, [1, 2, 4, 3])])
def test_epochs_are_ranked_best_first_and_of_equals_the_earlier_comes_first(minimize, ranking):
    monitor = Monitor("valid", "loss", minimize)
    assert monitor.ranking(history(9.0, 2.0, 1.0, 2.0)) == ranking
    assert monitor.best(history(9.0, 2.0, 1.0, 2.0)) == ranking[0]


@pytest.mark.parametrize("minimize", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_never_ranked(minimize, value):
    monitor = Monitor("valid", "loss", minimize)
    assert monitor.ranking(history(value, 2.0, value)) == [2]
    assert monitor.best(history(value)) is None
    assert monitor.best({}) is None


def test_the_rank_does_not_depend_on_the_order_of_the_history():
    assert Monitor("valid", "loss", True).ranking(dict(reversed(history(1.0, 1.0, 0.5).items()))) == [3, 1, 2]


def test_a_loader_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="monitor 'test/loss' names a loader that there is not; there is 'valid'"):
        Monitor("test", "loss", True).value({"valid": {"loss": 1.0}})


def test_a_metric_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="monitor 'valid/f1': loader 'valid' has no such metric; it has 'loss'"):
        Monitor("valid", "f1", False).value({"valid": {"loss": 1.0}})


def test_several_monitors_keep_their_order():
    monitors = parse_monitors(["valid/accuracy:max", "valid/loss:min"])
    assert monitors == [Monitor("valid", "accuracy", False), Monitor("valid", "loss", True)]


@pytest.mark.parametrize("texts", [[], ["valid/loss:min", "valid/loss:max"]], ids=["none", "twice"])
def test_no_monitor_or_one_metric_twice_is_refused(texts):
    with pytest.raises(UsageError, match="monitor must name one or several different metrics, got"):
        parse_monitors(texts)


def test_one_monitor_needs_no_list():
    assert parse_monitors("valid/loss:min") == parse_monitors(["valid/loss:min"])
