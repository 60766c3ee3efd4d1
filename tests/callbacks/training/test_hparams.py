"""HParams: one row a run in the HPARAMS tab of the real server, with the best metric and no runs beside it."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from catalyst import dl
from kit import OURS, SIDES, STOCK, Named, fit, scalars_of
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard_server import serve
from torch import nn

from assay.callbacks import UsageError
from assay.callbacks.tensorboard.hparams_summaries import flatten
from assay.callbacks.training.hparams import HParams

HPARAMS = {
    "lr": 0.1,
    "epochs": 3,
    "optimizer": {"name": "SGD", "betas": [0.9, 0.99]},
    "nesterov": True,
    "patience": None,
    "limit": math.inf,
}
SHOWN = {
    "lr": 0.1,
    "epochs": 3.0,
    "optimizer.name": "SGD",
    "optimizer.betas": "0.9, 0.99",
    "nesterov": True,
    "patience": "None",
    "limit": "inf",
}
SCORES = [0.25, 0.75, 0.5, 1.0]


class Score(dl.Callback):
    """Gives the loader ``valid`` a score that is decided beforehand, by epoch."""

    def __init__(self, scores=SCORES, fail_in=None):
        super().__init__(order=dl.CallbackOrder.Metric)
        self.scores, self.fail_in = scores, fail_in

    def on_loader_end(self, runner):
        if runner.epoch_step == self.fail_in:
            raise ZeroDivisionError("the run's own error")
        if runner.loader_key == "valid":
            runner.loader_metrics["score"] = self.scores[runner.epoch_step - 1]


def items(first="image", second="target"):
    return [{first: torch.rand(4), second: index % 2} for index in range(6)]


def run_of(side, folder, callbacks, epochs=3, hparams=HPARAMS, **options):
    image, target, _ = side.names
    fit(
        side.runner(), Named(nn.Linear(4, 2), side.key), items(image, target), callbacks, batch=3, epochs=epochs,
        hparams=hparams, **side.logs(folder), **options,
    )  # fmt: skip


run_ours, run_stock = partial(run_of, OURS), partial(run_of, STOCK)
RUNNERS = {name: partial(run_of, side) for name, side in SIDES.items()}


@pytest.fixture(params=RUNNERS)
def kit(request):
    return RUNNERS[request.param]


def sessions(folder):
    """Return (starts, ends) that the folder's event files hold, as the plugin's data."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    values = [
        value
        for path in sorted(folder.glob("events.*"))
        for raw in RawEventFileLoader(str(path)).Load()
        for value in Event.FromString(raw).summary.value
    ]
    assert not any(value.tag == metadata.EXPERIMENT_TAG for value in values)
    return tuple(
        [HParamsPluginData.FromString(value.metadata.plugin_data.content) for value in values if value.tag == tag]
        for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    )


def shown(start):
    return {name: getattr(v, v.WhichOneof("kind")) for name, v in start.session_start_info.hparams.items()}


# -- the event files --------------------------------------------------------------------------------------------------


def test_a_run_writes_one_session_with_its_hyper_parameters_and_that_it_succeeded(kit, tmp_path):
    kit(tmp_path, [Score(), HParams("valid/score", minimize=False)])
    [start], [end] = sessions(tmp_path / "train")
    assert shown(start) == SHOWN
    assert end.session_end_info.status == api_pb2.STATUS_SUCCESS
    assert end.session_end_info.end_time_secs >= start.session_start_info.start_time_secs > 0


def test_the_best_value_so_far_is_written_every_epoch_beside_the_hyper_parameters(kit, tmp_path, read_events):
    kit(tmp_path, [Score(), HParams(["valid/score", "valid/loss"], [False, True])])
    events = read_events(tmp_path / "train")
    assert scalars_of(events)["10_best/valid/score"] == {1: 0.25, 2: 0.75, 3: 0.75}
    by_tag = scalars_of(read_events(tmp_path / "valid"))
    losses = by_tag.get("1_overview/loss") or by_tag["loss/epoch"]  # as Catalyst's own logger names it
    best = {epoch: min(losses[before] for before in range(1, epoch + 1)) for epoch in losses}
    assert scalars_of(events)["10_best/valid/loss"] == pytest.approx(best)
    best = {tag for tag in events.Tags()["scalars"] if tag.startswith("10_best")}
    assert best == {"10_best/valid/score", "10_best/valid/loss"}


def test_a_value_that_is_not_finite_is_never_the_best(kit, tmp_path, read_events):
    kit(tmp_path, [Score([math.nan, 2.0, -math.inf]), HParams("valid/score")])
    assert scalars_of(read_events(tmp_path / "train"))["10_best/valid/score"] == {2: 2.0, 3: 2.0}


def test_a_run_that_fails_says_so_and_keeps_its_best(kit, tmp_path, read_events):
    with pytest.raises(ZeroDivisionError):
        kit(tmp_path, [Score(fail_in=2), HParams("valid/score", minimize=False)])
    [_], [end] = sessions(tmp_path / "train")
    assert end.session_end_info.status == api_pb2.STATUS_FAILURE
    assert scalars_of(read_events(tmp_path / "train"))["10_best/valid/score"] == {1: 0.25}


def test_a_resumed_run_goes_on_with_the_session_and_the_best_of_the_first(tmp_path, read_events):
    run_ours(tmp_path, [Score(), HParams("valid/score", minimize=False)], epochs=2)
    run_ours(tmp_path, [Score(), HParams("valid/score", minimize=False)], epochs=4, resume=str(tmp_path))
    folder = tmp_path / "train"
    assert [len(of) for of in sessions(folder)] == [1, 1]
    assert scalars_of(read_events(folder))["10_best/valid/score"] == {1: 0.25, 2: 0.75, 3: 0.75, 4: 1.0}


def test_a_process_that_does_not_write_needs_no_logger_and_follows_the_metrics(tmp_path):
    engine = SimpleNamespace(is_main_process=False)
    runner = SimpleNamespace(engine=engine, loaders={"valid": []}, loggers={}, hparams={"lr": 1}, epoch_step=0)
    callback = HParams()
    callback.on_experiment_start(runner)
    runner.epoch_step, runner.epoch_metrics = 1, {"valid": {"loss": 0.5}}
    callback.on_epoch_end(runner)
    callback.on_experiment_end(runner)
    assert callback.state_dict() == {"best": {"valid/loss": 0.5}}


# -- the server -------------------------------------------------------------------------------------------------------

REQUEST = {"allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"], "sliceSize": 100}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two runs with different hyper-parameters and metrics, and one that failed, under one server."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    run_stock(folder / "stock", [Score(), HParams("valid/score", minimize=False)])
    run_ours(folder / "ours", [Score(), HParams("valid/loss")], hparams={"lr": 0.5, "width": 8})
    with pytest.raises(ZeroDivisionError):
        run_ours(folder / "failed", [Score(fail_in=2), HParams("valid/score")], hparams={"lr": 0.1})
    with serve(folder, tmp_path_factory.mktemp("server") / "log.txt") as running:
        running.wait(lambda it: len(groups(it)) == 3)
        yield running


def groups(server):
    answer = server.post("plugin/hparams/session_groups", {**REQUEST, "colParams": columns(server)})
    return {group["name"]: group for group in answer.get("sessionGroups", [])}


def columns(server):
    experiment = server.post("plugin/hparams/experiment", {})
    infos = experiment.get("metricInfos", [])
    return [{"metric": info["name"], "includeInResult": True} for info in infos] + [
        {"hparam": info["name"], "includeInResult": True} for info in experiment.get("hparamInfos", [])
    ]


def test_the_server_shows_one_row_a_run_with_its_own_hyper_parameters(server):
    rows = groups(server)
    assert set(rows) == {"stock/train", "ours/train", "failed/train"}
    assert rows["stock/train"]["hparams"] == SHOWN
    assert rows["ours/train"]["hparams"] == {"lr": 0.5, "width": 8.0}
    assert all(len(row["sessions"]) == 1 for row in rows.values())


def test_the_server_shows_the_final_best_of_each_run(server):
    rows = groups(server)
    values = {
        name: {metric["name"]["tag"]: (metric["value"], metric["trainingStep"]) for metric in row["metricValues"]}
        for name, row in rows.items()
    }
    # Of all the columns those of the best values are the first, and the tab shows only the first five.
    assert {name: [tag for tag in row if "best" in tag] for name, row in values.items()} == {
        "stock/train": list(values["stock/train"])[:1],
        "failed/train": list(values["failed/train"])[:1],
        "ours/train": list(values["ours/train"])[:1],
    }
    assert values["stock/train"]["10_best/valid/score"] == (0.75, 3)
    assert values["failed/train"]["10_best/valid/score"] == (0.25, 1)
    value, step = values["ours/train"]["10_best/valid/loss"]
    assert step == 3
    losses = server.json("plugin/scalars/scalars", run="ours/valid", tag="1_overview/loss")
    assert value == pytest.approx(min(loss for _, _, loss in losses))


def test_the_server_shows_how_each_run_ended(server):
    status = {name: row["sessions"][0]["status"] for name, row in groups(server).items()}
    assert status == {
        "stock/train": "STATUS_SUCCESS",
        "ours/train": "STATUS_SUCCESS",
        "failed/train": "STATUS_FAILURE",
    }


def test_there_is_one_row_per_loader_and_no_other(server):
    runs = [name.split("/", 1)[1] for name in server.json("runs") if not name.endswith("_epoch_")]
    # three runs; the one that failed in its second epoch had ended its first
    assert sorted(runs) == sorted(3 * ["train", "valid"])


# -- wrong use --------------------------------------------------------------------------------------------------------


def test_without_hyper_parameters_there_is_nothing_to_show(kit, tmp_path):
    with pytest.raises(UsageError, match=r"pass train\(\) hparams=\{'lr': ..., ...\}, got none"):
        kit(tmp_path, [HParams()], hparams=None)


def test_a_loader_that_there_is_not_is_an_error_before_the_first_step(kit, tmp_path):
    with pytest.raises(UsageError, match="asks for key 'test', which the run's loaders lacks; it has 'train', 'valid'"):
        kit(tmp_path, [HParams("test/loss")])


def test_a_metric_that_there_is_not_is_an_error_with_those_that_there_are(tmp_path):
    with pytest.raises(UsageError, match="asks for key 'f1', which the metrics of loader 'valid' lacks; it has 'loss'"):
        run_ours(tmp_path, [HParams("valid/f1")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "metric must name one or several different metrics, got"),
        ((["valid/loss", "valid/loss"],), "metric must name one or several different metrics"),
        (("loss",), "metric must read LOADER/METRIC, like 'valid/loss', got 'loss'"),
        (("/loss",), "metric must read LOADER/METRIC"),
        (("valid/loss", [True, False]), "minimize must be one value, or one for each of"),
    ],
)
def test_a_wrong_argument_is_an_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        HParams(*arguments)


def test_flattening_keeps_what_the_tab_takes_and_makes_text_of_the_rest():
    given = {"a": {"b": {"c": 1}, "d": {}}, "set": {"x"}, "flag": False, "nan": math.nan, "kind": int, "name": ""}
    expected = {"a.b.c": 1.0, "set": "x", "flag": False, "nan": "nan", "kind": "<class 'int'>", "name": ""}
    assert flatten(given) == expected
    assert type(flatten(given)["flag"]) is bool
