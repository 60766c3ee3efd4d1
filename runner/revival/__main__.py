"""``python -m assay.runner.revival SCRIPT ...``: mend Catalyst and run a project without editing it."""

import argparse
import runpy
import sys
from pathlib import Path

from assay.callbacks.errors import UsageError

from . import revive


def main(arguments: list[str]) -> None:
    """Mend Catalyst, and run a script or module as Python would."""
    parser = argparse.ArgumentParser(
        prog="python -m assay.runner.revival",
        description="Mend Catalyst 22.04 and run a project without editing it.",
        epilog="catalyst-run: python -m assay.runner.revival -m catalyst.contrib.scripts.run -C config.yml",
    )
    parser.add_argument("--without", default="", metavar="NAMES", help="faults not to mend, separated by commas")
    parser.add_argument("--list", action="store_true", help="print what is mended, and why, before anything runs")
    parser.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is the name of a module")
    parser.add_argument("script", metavar="SCRIPT", nargs="?", help="a file, or with -m a module")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="arguments of the script")
    options = parser.parse_args(arguments)
    if options.script is None and not options.list:
        parser.error("a script is needed, or --list")
    try:
        revival = revive(without=[name for name in options.without.split(",") if name])
    except UsageError as error:
        parser.error(str(error))
    if options.list:
        sys.stdout.write(f"{revival}\n")
    if options.script is not None:
        _run_script(parser, options)


def _run_script(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    # The project must find sys.argv and sys.path as if it were started directly.
    sys.argv = [options.script, *options.arguments]
    if options.is_module:
        sys.path.insert(0, "")
        runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        return
    if not Path(options.script).is_file():
        parser.error(f"there is no file {options.script!r}")
    sys.path.insert(0, str(Path(options.script).resolve().parent))
    runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
