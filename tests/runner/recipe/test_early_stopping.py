"""Ending a run that no longer gets better."""

import math

import pytest
from kit import Scores

from assay.runner import EarlyStopping, Monitor, UsageError

SCORE = Monitor("train", "score", False)


@pytest.mark.parametrize(
    ("scores", "patience", "last_epoch"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5), 1, 5),
        ((0.3, 0.2, 0.1, 0.4, 0.5), 1, 2),
        ((0.3, 0.2, 0.1, 0.4, 0.5), 2, 3),
        ((0.3, 0.2, 0.1, 0.4, 0.5), 3, 5),
        ((0.3, 0.3, 0.3, 0.3, 0.3), 2, 3),
        ((math.nan, math.nan, math.nan, math.nan, 0.1), 3, 3),
        ((math.nan, 0.1, math.nan, math.nan, 0.5), 2, 4),
    ],
    ids=["always better", "worse", "patience 2", "better in time", "equal is not better", "never finite", "then nan"],
)
def test_a_run_ends_after_patience_epochs_without_a_better_value(
    make_net, make_loader, train, scores, patience, last_epoch
):
    callbacks = [Scores(*scores), EarlyStopping(SCORE, patience)]
    runner = train(make_net(), {"train": make_loader(4)}, epochs=5, callbacks=callbacks)
    assert runner.epoch_step == last_epoch
    assert sorted(runner.history) == list(range(1, last_epoch + 1))


def test_a_resumed_run_remembers_the_best_epoch_of_before(make_net, make_loader, train, tmp_path):
    loaders = {"train": make_loader(4)}
    train(make_net(), loaders, epochs=2, logdir=str(tmp_path), callbacks=[Scores(0.9, 0.1)])
    callbacks = [Scores(0.9, 0.1, 0.2, 0.3, 0.4), EarlyStopping(SCORE, 3)]
    runner = train(make_net(), loaders, epochs=5, resume=str(tmp_path), callbacks=callbacks)
    assert runner.epoch_step == 4


def test_a_metric_that_there_is_not_is_refused(make_net, make_loader, train):
    with pytest.raises(UsageError, match="monitor 'train/score': loader 'train' has no such metric; it has 'loss'"):
        train(make_net(), {"train": make_loader(4)}, callbacks=[EarlyStopping(SCORE, 1)])


def test_a_patience_below_one_is_refused():
    with pytest.raises(UsageError, match="patience must be at least 1, got 0"):
        EarlyStopping(SCORE, 0)


def test_a_run_that_stopped_early_stays_stopped_when_it_is_resumed(make_net, make_loader, train, tmp_path):
    loaders = {"train": make_loader(4)}
    scores = (0.9, 0.1, 0.2, 0.3, 0.4)
    first = train(
        make_net(), loaders, epochs=5, logdir=str(tmp_path), callbacks=[Scores(*scores), EarlyStopping(SCORE, 2)]
    )
    again = train(
        make_net(), loaders, epochs=5, resume=str(tmp_path), callbacks=[Scores(*scores), EarlyStopping(SCORE, 2)]
    )
    assert first.epoch_step == again.epoch_step == 3
