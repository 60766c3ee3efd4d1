import subprocess
import sys

START = "import gc\nfrom assay.runner.commands.quick_imports import quick_imports\n"
SHOW = "print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"


def run(code):
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_what_is_imported_is_left_out_of_later_collections():
    assert run("with quick_imports(): import torch._dynamo\n" + SHOW) == ["True", "True"]


def test_a_process_that_has_imported_torch_is_let_alone():
    assert run(f"import torch\nwith quick_imports(): {SHOW}{SHOW}") == ["True", "False"] * 2


def test_a_process_that_collects_no_garbage_still_does_not_afterwards():
    assert run("gc.disable()\nwith quick_imports(): pass\n" + SHOW) == ["False", "False"]


def test_an_import_that_fails_leaves_collection_on():
    code = "try:\n  with quick_imports(): import no_such_module\nexcept ModuleNotFoundError: "
    assert run(code + SHOW) == ["True", "False"]
