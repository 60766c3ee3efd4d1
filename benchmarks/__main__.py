"""Run all benchmarks, one after another: ``python -m benchmarks [NAME ...] [--device cpu|cuda]``."""

import argparse
import importlib
from collections.abc import Sequence

from .devices import DEVICES, require_device
from .overhead import SETS

# Modules with a ``main`` of its own options, and the sets of ``overhead``; the second group is of the CPU alone.
ON_ANY_DEVICE = ("overhead", "alone", "loader_end", "growth", "findings")
ON_CPU = ("loaders", "startup", "counters", "gallery")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks that are named, by default all that the device has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = (*ON_ANY_DEVICE, *ON_CPU)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in names:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(names)}")
    require_device(parser, options.device)
    for name in options.names or (ON_ANY_DEVICE if options.device == "cuda" else names):
        print(f"-- {name}", flush=True)
        given = ["--device", options.device] if name in ON_ANY_DEVICE else []
        given += ["--set", name] if name in SETS else []
        importlib.import_module(f"benchmarks.{'overhead' if name in SETS else name}").main(given)


if __name__ == "__main__":
    main()
