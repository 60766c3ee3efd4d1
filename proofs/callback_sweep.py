"""Every exported callback, alone in each kind of runner, beside each of Catalyst's callbacks and loggers.

``python -m proofs.callback_sweep`` writes ``benchmarks/results/callback-sweep.json``: how many combinations train to
the same weights and losses, bit by bit, as a run without callbacks, and the error of each other one.
"""

import contextlib
import io
import itertools
import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.state import AcceleratorState

from benchmarks.results import FOLDER, machine

from .sweep_kinds import KINDS, LOGGERS, OURS, REFUSED, STOCK, outcome, train

RESULT = FOLDER / "callback-sweep.json"


def main(kinds: Sequence[str] = KINDS, ours: Sequence[str] = tuple(OURS), stock: Sequence[str] = tuple(STOCK)) -> int:
    """Run each combination and write the result; return 1 if a number changed or an error was not expected."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    for kind in kinds:
        plain = _quietly(train, kind, {}, {})
        for name, beside, logger in itertools.product(ours, stock, LOGGERS):
            said = _outcome(kind, name, beside, logger, plain)
            foreseen = said == "same" or REFUSED.get((kind, name), "\n") in said
            counts["same" if said == "same" else "refused" if foreseen else "wrong"] += 1
            if not foreseen:
                wrong[f"{kind}, {name}, {beside}, {logger}"] = said
        print(f"{kind:12} {dict(counts)}", flush=True)
    _write(counts, wrong)
    return int(bool(wrong))


def _outcome(kind: str, name: str, beside: str, logger: str, plain: dict[str, object]) -> str:
    try:
        said: str = _quietly(outcome, kind, [name], [beside], logger, plain)
    except Exception as error:  # noqa: BLE001 - one failure must not end the sweep; it is reported by name
        return f"{type(error).__name__}: {error}"
    return said


def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    # Accelerate holds device and precision for the whole process; each combination chooses them anew.
    AcceleratorState._reset_state(True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)


def _write(counts: Counter[str], wrong: dict[str, str]) -> None:
    content = {
        "machine": machine("cpu"),
        "combinations": sum(counts.values()),
        "of": "kinds of runner x callbacks of assay x callbacks of Catalyst x loggers",
        "kinds": list(KINDS),
        "callbacks": OURS,
        "beside": list(STOCK),
        "loggers": list(LOGGERS),
        "same": f"{counts['same']} train to the same weights and losses, bit by bit, as without callbacks",
        "refused": f"{counts['refused']}, in one line: {', '.join(' in '.join(pair[::-1]) for pair in REFUSED)}",
        "wrong": wrong,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
