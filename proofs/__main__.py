"""Whether Grad-CAM finds planted evidence: ``python -m proofs [NAME ...]`` writes ``benchmarks/results/``."""

import argparse
import json
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.results import FOLDER, machine

from .grad_cam import NEEDED, prove
from .planted import LARGEST, LOOKS, SIDE, SMALLEST
from .zoo import ZOO

RESULT = FOLDER / "grad-cam-proof.json"
KEPT = Path("build/proofs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the proof for the named models, by default for all, and write the result; return 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m proofs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"parts of {', '.join(ZOO)}; by default all")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of weights; models in it are not trained")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    names = [name for name in ZOO if not options.names or any(part in name for part in options.names)]
    # A run of some models keeps the figures of the others.
    rows = json.loads(RESULT.read_text())["models"] if options.names and RESULT.exists() else {}
    for name in names:
        rows[name] = prove(name, options.kept)
        print(f"{name:26} {json.dumps(rows[name])}", flush=True)
        _write({name: rows[name] for name in ZOO if name in rows})
    return int(not all(rows[name]["proved"] for name in names))


def _write(rows: dict[str, dict[str, object]]) -> None:
    content = {
        "machine": machine("cpu") | {"timm": version("timm")},
        "data": (
            f"{SIDE} px of noise, a patch of {SMALLEST} to {LARGEST} px at any place, classes {', '.join(LOOKS)}, "
            "and a decoy of the same size in every image"
        ),
        "share": f"of images predicted right, with the peak of the map on the patch; {NEEDED} is asked for",
        "chance": "the same share of maps of random values",
        "on_decoy": "share of images with the peak of the map on the decoy",
        "found_when_erased": "share of images still predicted as before when the patch is taken away",
        "models": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
