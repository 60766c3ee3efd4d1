"""The wheel: built, installed by pip and used, beside a user's own ``callbacks.py``."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("callbacks", "experiments", "runner")
LIBRARIES = Path(sysconfig.get_path("purelib"))


def run(*command, cwd, **environment):
    """Run a command without this process's import path, and return what it printed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=variables | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git knows of or does not ignore: no stale ``build/``, no caches."""
    copy = tmp_path_factory.mktemp("checkout")
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel of the copy."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=checkout)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def venv(wheel, tmp_path_factory):
    """A new environment with every library of this one but assay, into which pip has installed the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    libraries = tmp_path_factory.mktemp("libraries")
    for path in LIBRARIES.iterdir():
        # Of the .pth files, setuptools' own stands in for distutils, which Python left out in 3.12.
        if "assay" not in path.name.lower() and (path.suffix != ".pth" or path.name == "distutils-precedence.pth"):
            (libraries / path.name).symlink_to(path)
    (site_packages(folder) / "libraries.pth").write_text(f"import site; site.addsitedir({str(libraries)!r})\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    # With its requirements: all are there, so that pip accepts them or fails.
    run(*pip, "install", "--no-index", wheel, cwd=folder)
    return folder


def site_packages(venv):
    (folder,) = venv.glob("lib/python3*/site-packages")
    return folder


def test_the_wheel_holds_every_python_file_typing_marker_and_file_of_the_front_end_and_nothing_else(checkout, wheel):
    expected = {
        f"assay/{path.relative_to(checkout)}"
        for folder in FOLDERS
        for path in (checkout / folder).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed" or path.parent == checkout / "callbacks/gallery/web"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {f"assay/{folder}/py.typed" for folder in FOLDERS} <= names
    assert "assay/__init__.py" not in names  # a namespace, which others may extend


def test_every_folder_with_python_files_is_a_package(checkout):
    for folder in FOLDERS:
        for path in (checkout / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_the_wheel_is_described_as_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        description = message_from_bytes(archive.read(metadata))
        (scripts,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "assay = assay.runner.commands.main:main" in archive.read(scripts).decode()
        assert "assay_samples = assay.callbacks.gallery.tab.plugin:SamplesLoader" in archive.read(scripts).decode()
        assert any(name.endswith("LICENSE") for name in archive.namelist())
    assert description["Name"] == "catalyst-assay"
    assert description["Requires-Python"] == "<3.14,>=3.11"
    requirements = description.get_all("Requires-Dist")
    # pip refuses Catalyst's metadata, and with it what requires Catalyst.
    catalyst = [one for one in requirements if one.startswith("catalyst")]
    assert catalyst == ['catalyst==22.4; extra == "catalyst"']
    assert "six" in requirements  # Catalyst imports it where pandas is, and does not declare it


def test_pip_is_one_that_refuses_what_requires_catalyst():
    # The installation above shows something only with a pip that is strict about metadata: 24.1 and newer.
    major, minor = (int(part) for part in importlib.metadata.version("pip").split(".")[:2])
    assert (major, minor) >= (24, 1)


def test_pip_finds_nothing_missing_or_broken_of_what_the_wheel_requires(venv):
    code = """
import importlib.metadata as metadata
from packaging.requirements import Requirement
for line in metadata.requires("catalyst-assay"):
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        assert requirement.specifier.contains(metadata.version(requirement.name), prereleases=True), line
        print(requirement.name)
"""
    names = run(venv / "bin/python", "-c", code, cwd=venv).split()
    assert {"torch", "accelerate", "albumentations", "opencv-python-headless"} <= set(names)


@pytest.mark.long("trains digits by the wheel, whose imports are compiled for it")
def test_the_users_own_callbacks_and_ours_live_side_by_side(venv, tmp_path):
    (tmp_path / "callbacks.py").write_text("COUNT = 3\n")
    (tmp_path / "runner.py").write_text("NAME = 'mine'\n")
    (tmp_path / "use.py").write_text(
        """
import callbacks
import runner

import assay.callbacks
from assay.callbacks import BestWorstBatches
from assay.runner.commands.main import main

assert BestWorstBatches("loss", k_images=callbacks.COUNT).k_images == 3
code = main(["train", "digits", "--epochs", "1", "--width", "2", "--device", "cpu", "--run-dir", runner.NAME])
print("FILES", callbacks.__file__, runner.__file__, assay.callbacks.__file__, code, sep="\\n")
"""
    )
    output = run(venv / "bin/python", "use.py", cwd=tmp_path, OMP_WAIT_POLICY="passive")
    users_callbacks, users_runner, ours, code = output.partition("FILES\n")[2].split()
    assert users_callbacks == str(tmp_path / "callbacks.py")
    assert users_runner == str(tmp_path / "runner.py")
    assert ours == str(site_packages(venv) / "assay/callbacks/__init__.py")
    assert code == "0"
    assert (tmp_path / "mine" / "checkpoints" / "best.pt").is_file()


def test_the_installed_command_lists_the_experiments(venv, checkout, tmp_path):
    names = {line.split()[0] for line in run(venv / "bin/assay", "list", cwd=tmp_path).splitlines()}
    found = [*(checkout / "experiments").glob("[a-z]*.py"), *(checkout / "experiments").glob("[a-z]*/__init__.py")]
    shared = {"detectors", "own_pictures", "segmentation_nets"}  # what several of them are made of
    assert names == {path.stem if path.stem != "__init__" else path.parent.name for path in found} - shared


@pytest.mark.parametrize(
    "line", ["from assay.callbacks import Metrics", "import assay.runner", "import assay.runner.commands.main"]
)
def test_without_catalyst_the_import_says_in_one_line_what_to_install(venv, tmp_path, line):
    # Without `site` only the standard library and the wheel are there.
    code = f"import sys; sys.path.insert(0, {str(site_packages(venv))!r}); {line}"
    done = subprocess.run([venv / "bin/python", "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: assay needs Catalyst 22.4, whose metadata pip 24.1 and newer refuse; install it with: "
        "pip install uv && uv pip install catalyst==22.4"
    )


def test_opencv_is_the_build_that_needs_no_libgl():
    import cv2

    assert importlib.metadata.version("opencv-python-headless")
    for graphical in ("opencv-python", "opencv-contrib-python"):
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(graphical)
    assert "GUI:                           NONE" in cv2.getBuildInformation()
