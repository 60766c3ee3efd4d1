"""``Findings`` in real runs: it names what is wrong where people look, and the run trains as without it."""

import json
import logging
import multiprocessing

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Named, assert_equal, fit, make_stock_runner, read_events
from made_probes import make_image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import Findings, FindingsError, Metrics
from assay.callbacks.errors import UsageError
from assay.callbacks.findings.watch import Watch
from assay.runner import DictRunner, Engine

CLASSES = 5
NAMES = {"image": "image", "target": "target", "id": "sample_id"}
STOCK_NAMES = {"image": "features", "target": "targets", "id": "name"}


class Pictures(Dataset):
    """Pictures of bars with noise that is drawn anew from torch's and NumPy's generators each time."""

    def __init__(self, first, count, names=NAMES, *, moves=True):
        self.first, self.count, self.names, self.moves, self.reads = first, count, names, moves, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        image = torch.from_numpy(make_image(index % CLASSES, self.first + index))
        if self.moves:
            image = image + 0.1 * torch.randn(image.shape) + 0.1 * float(np.random.rand())
        keys = self.names
        return {keys["image"]: image, keys["target"]: index % CLASSES, keys["id"]: f"{self.first + index}"}


# Catalyst warns of an own handle_batch that takes the step.
pytestmark = pytest.mark.filterwarnings("ignore:No ``I:UserWarning")


def make_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, CLASSES),
    )  # fmt: skip


class Own(dl.Runner):
    """A runner as users write them, with a step of its own."""

    def handle_batch(self, batch):
        logits = self.model(batch["image"])
        loss = nn.functional.cross_entropy(logits, batch["target"])
        self.batch_metrics = {"loss": loss.detach()}
        self.batch = {**batch, "logits": logits}
        if self.is_train_loader:
            self.engine.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()


def train(kind, callbacks, *, shared=False, epochs=2, count=96, **options):
    """Train the same net on the same pictures in a kind of runner; return the runner."""
    torch.manual_seed(3)
    np.random.seed(3)
    names = STOCK_NAMES if kind == "stock" else NAMES
    key = "logits" if kind == "ours" else None
    runner = {
        "ours": DictRunner,
        "own": Own,
        "stock": make_stock_runner,
    }[kind]()
    model = Named(make_net(), key) if key else make_net()
    train_set = Pictures(0, count, names, moves=not shared)
    valid_set = train_set if shared else Pictures(1000, 40, names, moves=False)
    loaders = {"train": DataLoader(train_set, 8, shuffle=True), "valid": DataLoader(valid_set, 8)}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    if kind == "own":
        options["criterion"] = None
    fit(runner, model, loaders, callbacks, epochs=epochs, optimizer=optimizer, **options)
    runner.draws = [torch.rand(3), torch.from_numpy(np.random.rand(3))]
    return runner


def state_of(runner):
    """Return all that a further step would depend on."""
    grads = {name: it.grad for name, it in runner.model.named_parameters() if it.grad is not None}
    return [dict(runner.model.state_dict()), grads, runner.optimizer.state_dict(), runner.draws]


TWICE = pytest.mark.long("trains twice; each check and two kinds of runners are tried by quicker tests")


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "assay"]


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("ours", "full"),
        ("stock", "quick"),
        *(pytest.param(*both, marks=TWICE) for both in (("ours", "quick"), ("stock", "full"))),
        *(pytest.param("own", check, marks=TWICE) for check in ("quick", "full")),
    ],
)
def test_a_run_trains_bit_by_bit_as_without_it(kind, check):
    with_it, without = train(kind, [Findings(check)]), train(kind, [])
    for one, other in zip(state_of(with_it), state_of(without), strict=True):
        assert_equal(one, other)
    for runner in (with_it, without):
        assert not any(module._forward_hooks or module._backward_hooks for module in runner.model.modules())
    reads = [runner.get_loaders()["train"].dataset.reads for runner in (with_it, without)]
    assert reads[0] == reads[1] == 2 * 96


@pytest.mark.parametrize("kind", ["ours", "stock", "own"])
def test_a_healthy_run_is_silent(kind, caplog):
    findings = Findings()
    train(kind, [findings])
    assert [it.sentence for it in findings.found_ if it.severity != "note"] == []
    assert not any("finding" in line or "please report" in line for line in warnings_of(caplog))
    assert not any("failed" in why for why in findings.examination_.left_out.values())


@pytest.mark.parametrize("kind", ["ours", "stock", "own"])
def test_a_full_check_takes_steps_on_a_copy_and_a_healthy_run_is_silent(kind, caplog):
    findings, seen = Findings("full"), []
    rehearsal = Watch.rehearsal

    def rehearse(watch):
        seen.append(rehearsal(watch).steps)
        return watch.probe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "rehearsal", rehearse)
        train(kind, [findings])
    assert [len(it.steps) for it in seen] == [30] and seen[0].on_copy
    assert seen[0].memorized[1] < seen[0].memorized[0]
    assert not findings.watch_.probe.steps.on_copy
    assert [it.sentence for it in findings.found_ if it.severity != "note"] == []


@pytest.mark.parametrize("kind", ["ours", "stock", "own"])
def test_an_error_ends_the_run_before_its_first_step_and_says_how_to_go_on(kind):
    findings = Findings()
    with pytest.raises(FindingsError, match=r"train and valid share .*split the data.*--silence .*--check off") as info:
        train(kind, [findings], shared=True)
    assert {it.rule for it in info.value.findings} == {"shared-images"}


def test_an_error_is_logged_where_it_is_not_to_end_the_run(caplog):
    findings = Findings(stop=False)
    train("ours", [findings], shared=True)
    assert any(line.startswith("error (shared-images): train and valid share") for line in warnings_of(caplog))
    assert any(line.startswith("still holds: error (shared-images)") for line in warnings_of(caplog))


def test_a_silenced_rule_is_listed_and_does_not_look(tmp_path):
    findings = Findings(silence=["shared-images"])
    train("ours", [findings], shared=True, logdir=str(tmp_path))
    assert "shared-images" not in {it.rule for it in findings.found_}
    events = read_events(tmp_path / "train")
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("0_findings/list/text_summary")]
    assert "Silenced: shared-images." in texts[-1]


def test_the_file_and_tensorboard_hold_what_was_found(tmp_path):
    findings = Findings(stop=False)
    train("ours", [findings], shared=True, logdir=str(tmp_path))
    (found,) = [it for it in json.loads((tmp_path / "findings.json").read_text()) if it["rule"] == "shared-images"]
    assert found["severity"] == "error" and found["epoch"] == 0
    assert found["where"]["loader"] == "train, valid" and found["where"]["samples"]
    assert set(found) == {"severity", "rule", "where", "what", "evidence", "do", "epoch"}
    events = read_events(tmp_path / "train")
    text = events.Tensors("0_findings/list/text_summary")[0]
    assert text.step == 0
    assert "**error** (shared-images): train and valid share" in text.tensor_proto.string_val[0].decode()


def test_a_run_without_a_folder_and_without_tensorboard_is_looked_at(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    train("stock", [Findings(stop=False)], shared=True)
    assert any("shared-images" in line for line in warnings_of(caplog))
    assert not list(tmp_path.rglob("*"))


def test_a_resumed_run_looks_at_its_data_again_and_keeps_the_rest(tmp_path):
    train("ours", [Findings()], epochs=1, logdir=str(tmp_path))
    again = Findings(stop=False)
    train("ours", [again], shared=True, epochs=2, logdir=str(tmp_path), resume=str(tmp_path))
    assert "shared-images" in {it.rule for it in again.found_}
    assert again.watch_.probe.model is None


def test_evaluate_loader_looks_at_the_data():
    findings = Findings(stop=False)
    items = [{"image": torch.zeros(3, 8, 8), "target": index % 2, "sample_id": index} for index in range(8)]
    model = Named(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    callbacks = [Metrics(["accuracy"], num_classes=2), findings]
    DictRunner().evaluate_loader(DataLoader(items, 4), callbacks=callbacks, model=model, engine=Engine("cpu"))
    assert {it.where.loader for it in findings.found_} == {"valid"}
    assert findings.watch_.probe.model is None


def test_wrong_arguments_are_refused_in_one_line():
    with pytest.raises(UsageError, match=r"unknown check 'fast'.*There is: 'full', 'quick'"):
        Findings("fast")
    with pytest.raises(UsageError, match="unknown rule 'shared-image'; did you mean 'shared-images'"):
        Findings(silence="shared-image")


def train_on_rank(rank, with_it):
    # The processes of the tests are daemons, which may have no children; those of a run are none.
    multiprocessing.current_process()._config["daemon"] = False
    findings = Findings(stop=False)
    runner = train("ours", [findings] if with_it else [], shared=True)
    plain = {name: value.clone() for name, value in runner.model.state_dict().items()}
    return plain, sorted(it.rule for it in findings.found_)


@pytest.mark.long("two processes train twice")
def test_two_ranks_train_as_without_it_and_know_the_same(rank_processes):
    from rank_processes import Ranks

    ranks = Ranks(rank_processes, 2)
    with_it, without = ranks.run(train_on_rank, True), ranks.run(train_on_rank, False)
    for (one, _), (other, _) in zip(with_it, without, strict=True):
        assert_equal(
            {k.removeprefix("module."): v for k, v in one.items()},
            {k.removeprefix("module."): v for k, v in other.items()},
        )
    assert "shared-images" in with_it[0][1]


def test_rules_that_fail_are_reported_and_do_not_end_the_run(monkeypatch, caplog):
    from assay.callbacks.findings import examination
    from assay.callbacks.findings.probe.rule import rule

    def broken(probe):
        raise KeyError("nothing")
        yield

    monkeypatch.setattr(examination, "all_rules", lambda: (rule("broken", at="data")(broken),))
    with caplog.at_level(logging.WARNING, "assay"):
        train("ours", [Findings()], epochs=1)
    assert "rule broken failed with KeyError: 'nothing': please report it" in warnings_of(caplog)
