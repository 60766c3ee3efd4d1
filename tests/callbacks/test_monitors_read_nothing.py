"""Neither monitor makes a step wait: the dispatches of each step are the same with them and without."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.optimizer_monitor import OptimizerMonitor
from assay.callbacks.time_monitor import TimeMonitor
from assay.runner import Engine, TensorBoardLogger

sys.path.append(str(Path(__file__).parents[1]))
from test_host_reads import Counting, CountSteps


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, image):
        return {"logits": self.layer(image)}


def count_steps(folder, monitors, scaled, **options):
    model, count = Net(), CountSteps()
    engine = Engine("cpu")
    engine.scaler = torch.amp.GradScaler("cpu") if scaled else None
    train = DataLoader([{"image": torch.randn(5), "target": i % 3} for i in range(20)], batch_size=4)
    Counting(**options).train(
        engine=engine,
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loaders={"train": train, "valid": train},
        callbacks={"count": count, **monitors},
        loggers={"tensorboard": TensorBoardLogger(folder, log_every_steps=100)},
    )
    return count.steps


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.1, "accumulate_steps": 2}], ids=["plain", "clipped"])
def test_monitors_add_no_read_by_the_host_to_any_step(tmp_path, options, scaled):
    off = count_steps(tmp_path / "off", {}, scaled, **options)
    monitors = {"optimizer": OptimizerMonitor(), "time": TimeMonitor()}
    on = count_steps(tmp_path / "on", monitors, scaled, **options)
    assert len(on) == len(off) == 10
    assert on == off
    assert list(tmp_path.glob("on/train/events*"))
