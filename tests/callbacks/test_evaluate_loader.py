"""Callbacks under Catalyst's evaluate_loader, which takes no logger: metrics come back, and a line says what is not."""

import logging

import pytest
import torch
from catalyst import dl
from kit import fit
from sweep_parts import CLASSES, OURS, Net, make_loaders

from assay.callbacks import classification_diagnostics
from assay.callbacks.errors import UsageError
from assay.callbacks.training.hparams import HParams
from assay.runner import DictRunner, Engine


def make_runner(kit):
    if kit == "stock":
        return dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target"), Net()
    return DictRunner(), Net("logits")


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_metrics_come_back_and_nothing_is_written(kit, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner, model = make_runner(kit)
    loader = make_loaders(OURS)["valid"]
    callbacks = [*classification_diagnostics(class_names=CLASSES), HParams()]
    with caplog.at_level(logging.WARNING, "assay"):
        found = runner.evaluate_loader(loader, callbacks=callbacks, model=model, engine=Engine("cpu"))
    with torch.no_grad():
        logits = [model.eval()(batch["image"]) for batch in loader]
    predicted = torch.cat([part if kit == "stock" else part["logits"] for part in logits]).argmax(1)
    targets = torch.cat([batch["target"] for batch in loader])
    assert found["accuracy"] == pytest.approx((predicted == targets).double().mean().item())
    assert "f1" in found  # of a callback that draws too
    assert "BestWorstSamples writes nothing: evaluate_loader gives the run no logger" in caplog.text
    assert not list(tmp_path.rglob("*tfevents*"))


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_a_run_that_trains_still_asks_for_a_logger(kit):
    runner, model = make_runner(kit)
    with pytest.raises(UsageError, match="the runner has no TensorBoard logger"):
        fit(runner, model, make_loaders(OURS), classification_diagnostics(class_names=CLASSES))
