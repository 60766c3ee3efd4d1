"""The proof that runs Catalyst's own tests, on a small checkout and made outcomes."""

import gzip
import json
from urllib.request import urlopen

import pytest
import torch
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from proofs import catalyst_suite, suite_data, suite_runs

PASSES, BREAKS, UNKNOWN, KNOWN = (f"tests/catalyst/data/test_a.py::test_{name}" for name in "abcd")
BY_CONFIG = "tests/pipelines/test_gan.py::test_config_run_on_cpu"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Have the result and the page written elsewhere; one failure has a reason."""
    monkeypatch.setattr(catalyst_suite, "RESULT", tmp_path / "result.json")
    monkeypatch.setattr(catalyst_suite, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(catalyst_suite, "REASONS", {KNOWN: ("the test's", "it counts wrong")})
    return tmp_path


def test_outcomes_are_counted_by_folder(written, capsys):
    without = {PASSES: "", KNOWN: "E: 1 != 2", BY_CONFIG: "E: no TPU"}
    assert catalyst_suite.report(without, {PASSES: "", KNOWN: "E: 1 != 2", BY_CONFIG: ""}) == 0
    assert json.loads((written / "result.json").read_text())["tests"] == {
        "tests/catalyst/data": {"run": 2, "without": 1, "with": 1},
        catalyst_suite.CONFIGS: {"run": 1, "without": 0, "with": 1},
        "all": {"run": 3, "without": 1, "with": 2},
    }
    page = (written / "page.md").read_text().splitlines()
    assert f"| {catalyst_suite.CONFIGS} | 1 | 0 | 1 |" in page
    assert page[-1] == f"| `{KNOWN}` | the test's | it counts wrong |"
    assert "none that passes without fails with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("revived", "said"),
    [
        ({PASSES: "", BREAKS: "E: 3"}, f"passes without revive() and fails with it: {BREAKS}: E: 3"),
        ({PASSES: ""}, f"passes without revive() and fails with it: {BREAKS}: it did not run"),
        ({PASSES: "", BREAKS: "", UNKNOWN: "E: 4"}, f"fails, and no reason is known: {UNKNOWN}: E: 4"),
    ],
)
def test_what_should_not_fail_is_named_with_exit_code_1(written, capsys, revived, said):
    assert catalyst_suite.report({PASSES: "", BREAKS: "", UNKNOWN: "E: 4"}, revived) == 1
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("folders", "needed", "said"),
    [
        ([], (), "there is no folder tests/catalyst in"),
        (suite_runs.PARTS, ("json", "no_such_package"), "the suite needs no_such_package: run it by `make suite`"),
    ],
)
def test_what_is_missing_is_told_with_exit_code_2(tmp_path, monkeypatch, capsys, folders, needed, said):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(catalyst_suite, "NEEDED", needed)
    with pytest.raises(SystemExit) as stop:
        catalyst_suite.main([str(tmp_path)])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


CHECKOUT = {
    "catalyst/__init__.py": "raise ImportError('the checkout hides what is installed')",
    "tests/__init__.py": "",
    "tests/catalyst/test_one.py": """
import os, pytest
from importlib.util import find_spec

def test_passes():
    assert "site-packages" in find_spec("catalyst").origin
    assert os.environ["OF_PLUGINS"] == "data and revival"

def test_fails():
    raise ValueError("told in one line,\\nnot in two")

class TestClass:
    def test_of_class(self):
        pass

@pytest.mark.skip
def test_is_skipped():
    pass
""",
    "tests/pipelines/test_two.py": "import no_such_package",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name, text in CHECKOUT.items():
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / name).write_text(text)
    monkeypatch.setattr(suite_data, "_PARTS", (("training.pt", "train", (3, 2)), ("test.pt", "t10k", (1, 1))))
    plugins = {"one": "import os\n\nos.environ['OF_PLUGINS'] = 'data'\n"}
    plugins["two"] = "import os\n\nos.environ['OF_PLUGINS'] += ' and revival'\n"
    for name, value in {"_PLUGINS": plugins, "_DATA": "one", "_REVIVES": "two"}.items():
        monkeypatch.setattr(suite_runs, name, value)
    (tmp_path / "copy").mkdir()
    suite_runs.lay_out(tmp_path / "checkout", tmp_path / "copy")
    return tmp_path / "copy"


def test_a_checkout_runs_apart(checkout):
    outcomes = suite_runs.run_suite(checkout, revived=True)
    assert outcomes == {
        "tests/catalyst/test_one.py::test_passes": "",
        "tests/catalyst/test_one.py::test_fails": "ValueError: told in one line,",
        "tests/catalyst/test_one.py::TestClass::test_of_class": "",
        "tests/pipelines/test_two.py": "collection failure",
    }
    entry = (checkout / "catalyst/contrib/scripts/run.py").read_text()
    assert "'-m', 'assay.runner.revival', '-m', 'catalyst.contrib.scripts.run'" in entry
    assert not (checkout / "catalyst/__init__.py").exists()


def test_a_run_that_pytest_could_not_begin_fails(checkout):
    (checkout / "one.py").write_text("raise ImportError('no plugin')")
    with pytest.raises(RuntimeError, match=r"(?s)pytest ended with [^01].*no plugin"):
        suite_runs.run_suite(checkout, revived=False)


def test_digits_have_the_form_of_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(suite_data, "_PARTS", (("training.pt", "train", (3, 0, 2)), ("test.pt", "t10k", (1, 1, 1))))
    resources = suite_data.write_mnist(tmp_path, tmp_path / "downloads")
    for name, files in (("training.pt", resources[:2]), ("test.pt", resources[2:])):
        kept = torch.load(tmp_path / "MNIST" / "processed" / name)
        for (url, _), expected in zip(files, kept, strict=True):
            path = tmp_path / url.rpartition("/")[2]
            with urlopen(url) as file:
                path.write_bytes(gzip.decompress(file.read()))
            assert torch.equal(read_sn3_pascalvincent_tensor(str(path)).long(), expected.long())
    images, labels = torch.load(tmp_path / "MNIST" / "processed" / "training.pt")
    assert images.shape == (5, 28, 28)
    assert torch.bincount(labels).tolist() == [3, 0, 2]
    assert images.amax(dim=(1, 2)).min() > 200


def test_digits_can_be_told_apart():
    images, labels = suite_data.make_digits((40, 40), torch.Generator().manual_seed(0))
    middle = images[:, 12:16, 12:16].double().mean(dim=(1, 2))  # a 0 is hollow and a 1 is not
    assert middle[labels == 0].mean() < middle[labels == 1].mean() / 2
