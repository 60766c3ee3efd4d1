"""Catalyst's own tests on the installed Catalyst, in a folder of their own and a process of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from .suite_data import write_mnist

PARTS = ("tests/catalyst", "tests/pipelines")

_FLAGS = ("-q", "--continue-on-collection-errors", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short")
_ENVIRONMENT = {
    "CATALYST_COMPUTE_PER_CLASS_METRICS": "1",
    "CONFIGS_REQUIRED": "1",
    "CPU_REQUIRED": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}
_LIMIT_S = 3600.0
_DATA, _REVIVES = "downloads_made_digits", "revives_catalyst"
_PLUGINS = {
    _DATA: "from catalyst.contrib.datasets import MNIST\n\nMNIST.resources = {resources!r}\n",
    _REVIVES: "from assay.runner import revive\n\nrevive()\n",
}
# The tests of configs start this path; the folders hold nothing else, so that the installed package stays the one.
_ENTRY = "catalyst/contrib/scripts/run.py"


def lay_out(checkout: Path, folder: Path) -> None:
    """Copy only the tests of the checkout, and add data and the plugin that calls ``revive``."""
    # Not the checkout itself: its sources would be imported instead of the installed Catalyst.
    shutil.copytree(checkout / "tests", folder / "tests", ignore=shutil.ignore_patterns("logs", "MNIST"))
    resources = write_mnist(folder / "tests", folder / "downloads")
    for name, text in _PLUGINS.items():
        (folder / f"{name}.py").write_text(text.format(resources=resources))


def run_suite(folder: Path, *, revived: bool) -> dict[str, str]:
    """Run what ``lay_out`` wrote.

    Returns:
        For each test, by ``path::name``: an empty text if it passed, else the first line of its error. Skipped tests
        are left out.

    Raises:
        RuntimeError: pytest itself failed.
    """
    report = folder / f"{'with' if revived else 'without'}.xml"
    _write_entry(folder, revived=revived)
    plugins = ("-p", _DATA, *(("-p", _REVIVES) if revived else ()))
    command = [sys.executable, "-m", "pytest", *_FLAGS, *plugins, f"--junitxml={report}", *PARTS]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **_ENVIRONMENT, "PATH": path, "PYTHONPATH": str(folder)}
    log = report.with_suffix(".log")
    with log.open("w") as output:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=_LIMIT_S, check=False
        )
    # 1: tests failed, which is a result; other codes mean that pytest itself did not get through.
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"pytest ended with {done.returncode}:\n" + "\n".join(log.read_text().splitlines()[-20:]))
    return {name: error.replace(f"{folder}/", "") for name, error in read_report(report).items()}


def read_report(path: Path) -> dict[str, str]:
    """Return what ``run_suite`` does, of a report in JUnit's form."""
    outcomes = {}
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("skipped") is None:
            name = _test_name(case.get("classname", ""), case.get("name", ""))
            wrong = [found for kind in ("failure", "error") if (found := case.find(kind)) is not None]
            outcomes[name] = wrong[0].get("message", "").partition("\n")[0] or "error" if wrong else ""
    return outcomes


def _test_name(owner: str, test: str) -> str:
    """Return ``path::test``, or ``path::Class::test``; the path alone of a file that was not collected."""
    names = [*filter(None, owner.split(".")), test] if owner else test.split(".")
    module = next(place for place, name in enumerate(names) if name.startswith("test_")) + 1
    return "::".join(["/".join(names[:module]) + ".py", *names[module:]])


def _write_entry(folder: Path, *, revived: bool) -> None:
    start = ["assay.runner.revival", "-m"] if revived else []
    command = ["-m", *start, "catalyst.contrib.scripts.run"]
    entry = folder / _ENTRY
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(
        "import subprocess, sys\n\n"
        f"raise SystemExit(subprocess.run([sys.executable, *{command!r}, *sys.argv[1:]]).returncode)\n"
    )
