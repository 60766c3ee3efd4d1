"""The queries of docs/sample-history.md, run on a run in which one label is wrong."""

import re
from pathlib import Path

import pytest
import torch
from kit import Named, fit
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.runner import DictRunner

PAGE = (Path(__file__).parents[3] / "docs" / "sample-history.md").read_text()
QUERIES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
WRONG = "digit-0040"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pictures, labels = load_digits(return_X_y=True)
    data = [
        {"image": torch.tensor(picture / 16, dtype=torch.float32), "target": int(label), "sample_id": f"digit-{i:04}"}
        for i, (picture, label) in enumerate(zip(pictures[:400], labels, strict=False))
    ]
    data[40]["target"] = (data[40]["target"] + 5) % 10
    torch.manual_seed(0)
    fit(
        DictRunner(), Named(nn.Linear(64, 10)), {key: DataLoader(data, 8) for key in ("train", "valid")},
        [SampleHistory()], epochs=3, lr=0.5, logdir=str(folder),
    )  # fmt: skip
    return folder, int(labels[40])


def answer(number, run, monkeypatch, capfd):
    monkeypatch.chdir(run)
    exec(QUERIES[number], {})
    return capfd.readouterr().out


def test_the_first_finds_the_wrong_label(run, monkeypatch, capfd):
    folder, label = run
    rows = re.findall(r"(digit-\d+).* (\d) │", answer(0, folder, monkeypatch, capfd))
    assert len(rows) == 20
    assert (WRONG, str(label)) in rows[:5]


def test_the_second_lists_what_was_learned_at_once(run, monkeypatch, capfd):
    said = answer(1, run[0], monkeypatch, capfd)
    assert re.search(r"shape: \((\d+), 13\)", said)
    assert WRONG not in said


def test_the_third_follows_a_sample(run, monkeypatch, capfd):
    said = answer(2, run[0], monkeypatch, capfd)
    assert [f"epoch-{epoch:06}.parquet" in said for epoch in (1, 2, 3, 4)] == [True, True, True, False]
    assert len(QUERIES) == 3
