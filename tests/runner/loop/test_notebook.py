"""What a run shows in a notebook, in a real kernel, and the same HTML without one."""

import base64
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import torch
from kit import Given, Scores, fit
from nbclient import NotebookClient

import assay.callbacks
import assay.runner
from assay.callbacks import UsageError
from assay.runner import DictRunner
from assay.runner.loop.notebook import epoch_table, in_notebook

SETUP = """
import torch
from torch import nn
from torch.utils.data import DataLoader
import assay.callbacks, assay.runner
from assay.callbacks import classification_diagnostics
from assay.runner import DictRunner

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 2)
    def forward(self, image):
        return {"logits": self.head(image.flatten(1))}

torch.manual_seed(0)
items = [{"image": torch.rand(1, 8, 8) / 2 + i % 2 / 2, "target": i % 2, "sample_id": i} for i in range(24)]
loaders = {"train": DataLoader(items, batch_size=8, shuffle=True), "valid": DataLoader(items, batch_size=8)}
model, runner = Net(), DictRunner()
"""
TRAIN = """
runner.train(
    model=model, loaders=loaders, criterion=nn.CrossEntropyLoss(), num_epochs=3, cpu=True, verbose=True,
    optimizer=torch.optim.SGD(model.parameters(), lr=0.1), logdir="run", valid_loader="valid", valid_metric="loss",
    callbacks=classification_diagnostics("full", num_classes=2),
)
"""
CELLS = [
    SETUP,
    TRAIN,
    "runner",
    "runner.show('best')",
    "print(assay.runner.__version__, 'Results' in dir(assay.callbacks), 'DictRunner' in dir(assay.runner))",
]


def images_in(html):
    """Return the pictures of a page as PNG, in order."""
    return [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]


def html_of(cell):
    return [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]


@pytest.mark.long("starts the kernel of a notebook, which imports torch anew")
def test_a_notebook_shows_a_bar_a_table_of_epochs_and_the_pictures(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(book, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, trained, last, shown, names = book.cells
    # One table, which has gained a row with each epoch, and no line of text beside it.
    (table,) = html_of(trained)
    # The loss has fallen in each epoch: the last is the best.
    assert [row.split("</td>")[0] for row in table.split("<tr><td>")[1:]] == ["1", "2", "<b>3</b>"]
    assert "valid<br>loss" in table
    texts = "".join(output.text for output in trained.outputs if output.output_type == "stream")
    assert not re.search(r"^epoch +\d/3  train", texts, re.M)
    assert "epoch 1/3 train" in texts
    assert "Warning" not in texts
    results = tmp_path / "run" / "results"
    for cell, folder in ((last, "last"), (shown, "best")):
        curves, *pictures = images_in("".join(html_of(cell)))
        assert sorted(pictures) == sorted(path.read_bytes() for path in (results / folder).rglob("*.png"))
        assert len(pictures) > 10
        assert curves == (results / "curves.png").read_bytes()
    assert names.outputs[0].text.split() == [assay.runner.__version__, "True", "True"]


def trained(folder=None, epochs=2):
    items = [{"image": torch.tensor([float(i % 2), 0.5]), "target": i % 2} for i in range(8)]
    options = {} if folder is None else {"logdir": str(folder)}
    return fit(DictRunner(), Given(), items, [Scores(0.1, 0.9)], batch=4, epochs=epochs, lr=0.0, **options)


def test_a_runner_without_a_folder_shows_its_table_and_its_curves():
    html = trained()._repr_html_()
    assert len(images_in(html)) == 1
    assert "<td>0.9</td>" in html


def test_a_runner_that_was_not_trained_says_so():
    assert DictRunner()._repr_html_() == "<p>DictRunner: not trained yet</p>"


def test_outside_a_notebook_the_folder_of_the_pictures_is_printed(tmp_path, capsys):
    assert not in_notebook()
    runner = trained(tmp_path)
    capsys.readouterr()
    runner.show()
    assert capsys.readouterr().out == f"pictures: {tmp_path / 'results' / 'last'}\n"
    trained().show()
    assert capsys.readouterr().out == "there are no pictures: train with a logdir\n"
    with pytest.raises(UsageError, match="best"):
        runner.show("bets")


def test_of_many_epochs_the_table_holds_the_last_and_the_best():
    epochs = {epoch: {"valid": {"<loss>": 1.0 / epoch}} for epoch in range(1, 101)}
    html = epoch_table(epochs, {100: 1.25}, best=3)
    rows = html.split("<tr><td>")[1:]
    assert [re.sub("<.*?>", "", row.split("</td>")[0]) for row in rows] == ["3", *map(str, range(81, 101))]
    assert rows[0].startswith("<b>3</b></td><td><b>0.3333</b>")
    assert "<td>1.2</td>" in rows[-1] or "<td>1.3</td>" in rows[-1]
    assert "79 more epochs are in metrics.csv" in html
    assert "valid<br>&lt;loss&gt;" in html


def test_dir_offers_every_public_name():
    for package in (assay.callbacks, assay.runner):
        assert set(package.__all__) <= set(dir(package))


def test_the_version_is_that_of_the_package_and_unknown_where_there_is_none():
    path = Path(assay.runner.__file__).with_name("version.py")
    code = f"import runpy; print(runpy.run_path({str(path)!r})['__version__'])"
    known, unknown = (
        subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for flags in ([], ["-I", "-S"])  # the latter without site-packages
    )
    assert known == assay.runner.__version__ == version("catalyst-assay")
    assert unknown == "0+unknown"
