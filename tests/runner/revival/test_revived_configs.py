"""Configs of Catalyst, as `catalyst-run` starts them."""

import sys

import pytest
from catalyst import dl
from stock_projects import make_data
from torch.utils.data import TensorDataset

from assay.runner import UsageError
from assay.runner.revival.configs import yes_or_no

CONFIG = """
runner:
  _target_: {module}.Notes
  model:
    _var_: model
    _target_: torch.nn.Sequential
    args:
      - _target_: torch.nn.Linear
        in_features: 5
        out_features: 3
  input_key: features
  output_key: &output_key logits
  target_key: &target_key targets
  loss_key: &loss_key loss

run:
  - _call_: train
    criterion:
      _target_: torch.nn.CrossEntropyLoss
    optimizer:
      _var_: optimizer
      _target_: torch.optim.SGD
      params:
        _var_: {parameters}
      lr: 1e-1
      nesterov: n
    scheduler:
      _target_: torch.optim.lr_scheduler.MultiStepLR
      optimizer:
        _var_: optimizer
      milestones: [1]
    loaders:
      train:
        _target_: torch.utils.data.DataLoader
        dataset:
          _target_: {module}.Digits
          train: y
        batch_size: 8
        drop_last: n
      &valid_key valid:
        &valid_loader
        _target_: torch.utils.data.DataLoader
        dataset:
          _target_: {module}.MoreDigits
          train: n
        batch_size: 8
    callbacks:
      - &accuracy
        _target_: catalyst.callbacks.AccuracyCallback
        input_key: *output_key
        target_key: *target_key
        topk: [1]
      - _target_: catalyst.callbacks.EarlyStoppingCallback
        patience: 1
        loader_key: *valid_key
        metric_key: accuracy01
        minimize: n
        min_delta: 2.0
    num_epochs: 5
    logdir: {folder}/logs
    valid_loader: *valid_key
    valid_metric: accuracy01
    minimize_valid_metric: n
    verbose: n

  - _call_: evaluate_loader
    loader: *valid_loader
    callbacks:
      - *accuracy
"""


class Digits(TensorDataset):
    """Numbers to learn, or others."""

    def __init__(self, train: bool = True):
        inputs, targets = make_data(20 if train is True else 12, seed=int(train is True))
        super().__init__(inputs.float(), targets)


class MoreDigits(Digits):
    """Hands its arguments on."""

    def __init__(self, **options):
        super().__init__(**options)


class Notes(dl.SupervisedRunner):
    """A project's own runner: notes what it was told, and how long it trained."""

    told = []

    def train(self, **arguments):
        super().train(**arguments)
        sizes = {key: len(loader.dataset) for key, loader in self.loaders.items()}
        Notes.told.append((sizes, self._minimize_valid_metric, self._verbose, self.epoch_step))


def write_config(folder, **changes):
    options = {"module": "test_revived_configs", "folder": folder, "parameters": "model.parameters", **changes}
    (folder / "config.yml").write_text(CONFIG.format(**options))
    return str(folder / "config.yml")


def run_config(path, times=1):
    """Run a config as the command does; return what its runner noted."""
    from assay.runner.revival.__main__ import main

    for _ in range(times):
        main(["-m", "catalyst.contrib.scripts.run", "-C", path])
    return sys.modules["test_revived_configs"].Notes.told


def test_a_config_means_what_it_says(revived, tmp_path):
    (told,) = revived(1, run_config, write_config(tmp_path), 2)
    assert told == [({"train": 20, "valid": 12}, False, False, 2), ({"valid": 12}, None, False, 1)] * 2


def make_wrong(path):
    with pytest.raises(UsageError) as told:
        run_config(path)
    return str(told.value)


def test_a_variable_that_is_not_there_is_named(revived, tmp_path):
    (said,) = revived(1, make_wrong, write_config(tmp_path, parameters="modle.parameters"))
    assert said.startswith("unknown _var_ 'modle' in the config, which must define it above; did you mean 'model'?")


def takes(a, b: bool, c: "bool", d=False, e: bool | None = None, f: str = "n"):
    return a, b, c, d, e, f


def test_a_word_is_a_bool_where_one_is_taken():
    assert takes(**yes_or_no(takes, dict.fromkeys("abcdef", "n"))) == ("n", False, False, False, False, "n")
    assert takes(**yes_or_no(takes, dict.fromkeys("abcdef", "Y"))) == ("Y", True, True, True, True, "Y")
    assert takes(**yes_or_no(takes, dict(zip("abcdef", [0, "no", 1, None, "yes", False], strict=True)))) == (
        0, "no", 1, None, "yes", False
    )  # fmt: skip
    assert yes_or_no(dict.fromkeys, {"value": "n"}) == {"value": "n"}
