"""Train every row of a workload in one process, in turns: ``python -m benchmarks.gpu.rows JSON``.

A process per row would load its libraries anew each time, which takes longer than the training itself. Instead each
run begins as the first did: with weights, optimizer, loaders and folder of its own, the same modes of torch, no memory
held, and no thread of the run before. Two bare loops a turn, its first run and its last one, show what of a difference
is the machine's, or left over from other rows.
"""

import gc
import importlib
import json
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from ..overhead import ROWS as ALL
from ..workload import Stopwatch, Workload
from .probe import Probe

BARE, AGAIN = "bare loop", "bare loop, again"
OFF, FULL, EVERY_STEP = "assay, off", "assay, full", "assay, full, gradients every step"
LIGHTNING = "Lightning with diagnostics"
ROWS = {BARE: ALL[BARE], **{name: ALL[name] for name in (OFF, FULL, EVERY_STEP, LIGHTNING)}, AGAIN: ALL[BARE]}

_ON_CUDA: dict[str, Any] = {"device": "cuda", "half": True, "epochs": 1}
WORKLOADS = {
    ("classifier", "cuda"): Workload(model="resnet50", side=224, batch_size=64, channels_last=True, **_ON_CUDA),
    ("masks", "cuda"): Workload(model="unet", masks=True, side=512, batch_size=8, channels_last=True, **_ON_CUDA),
    ("detector", "cuda"): Workload(model="fcos_resnet50", boxes=True, side=640, batch_size=8, classes=2, **_ON_CUDA),
    ("classifier", "cpu"): Workload(model="shufflenet_v2_x0_5", side=32, batch_size=2, channels_last=True),
    ("masks", "cpu"): Workload(model="unet", masks=True, side=16, batch_size=2, channels_last=True),
    ("detector", "cpu"): Workload(model="fcos_light", boxes=True, side=64, batch_size=2, classes=2),
}
_TURNS = 2
_FEWEST, _MOST = 20, 300  # training steps of a run
_LAST_S = 3.0  # kept for the last write


@dataclass
class Turns:
    """Trains the rows until the time is up, and writes what it has found after each run.

    Args:
        kind: of the workload: ``classifier``, ``masks`` or ``detector``.
        device: ``cuda``, or ``cpu`` for a tiny version.
        until: when to end, of ``time.time``.
        results: file for what was found.
    """

    kind: str
    device: str
    until: float
    results: str

    def __post_init__(self) -> None:
        self.workload = WORKLOADS[self.kind, self.device]
        self.probes: dict[str, Any] = {}
        self.turns: list[dict[str, Any]] = []
        self.broken: dict[str, str] = {}
        self.longest_s = 0.0

    def run(self) -> None:
        """Probe each row once, which also warms it up, then train all of them in turns."""
        for name in ROWS:
            self._attempt(name, self._probe)
        steps = self._choose_steps()
        self.workload = replace(self.workload, train_steps=steps, valid_steps=max(1, steps // 2), epochs=1)
        for turn in range(_TURNS if self.device == "cuda" else 1):
            self.turns.append({})
            # Back and forth, so that a machine that grows slower meanwhile treats first and last rows alike.
            for name in ROWS if turn % 2 == 0 else reversed(ROWS):
                if time.time() + self.longest_s > self.until - _LAST_S:
                    print("the time is up", flush=True)
                    return
                self._attempt(name, self._train)

    def _attempt(self, name: str, work: Any) -> None:
        """Train a row; one that fails does not end the others."""
        if name in self.broken:
            return
        began = time.time()
        try:
            work(name)
        except Exception as error:  # noqa: BLE001 - whatever a framework raises, the other rows are worth having
            traceback.print_exc()
            self.broken[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        self.longest_s = max(self.longest_s, time.time() - began) if work == self._train else 0.0
        print(f"  {name}: {time.time() - began:.1f} s", flush=True)
        _write(Path(self.results), self)

    def _probe(self, name: str) -> None:
        probe = Probe(self.device, window=10, first=3) if self.device == "cuda" else Probe(self.device, 1, 1)
        workload = replace(self.workload, train_steps=probe.steps, valid_steps=2, epochs=1)
        _run(name, workload, probe)
        self.probes[name] = probe.found

    def _train(self, name: str) -> None:
        self.turns[-1][name] = _run(name, self.workload)

    def _choose_steps(self) -> int:
        """Return how many training steps a run may have, so that all turns are done in time."""
        if self.device == "cpu":
            return 2
        trial = replace(self.workload, train_steps=_FEWEST, valid_steps=_FEWEST // 2, epochs=1)
        seconds = _run(BARE, trial)["seconds"] / _FEWEST
        # A third of the time goes into starting runs, and into what they write at the end.
        share = 0.65 * (self.until - _LAST_S - time.time()) / (_TURNS * len(ROWS))
        return max(_FEWEST, min(_MOST, int(share / seconds)))


def _run(name: str, workload: Workload, probe: Probe | None = None) -> dict[str, Any]:
    """Train one row from the state that each begins in; return its figures."""
    subject, options = ALL[BARE if name == AGAIN else name]
    train = importlib.import_module(f"benchmarks.subjects.{subject}").train
    _begin_anew(workload.device)
    threads = threading.active_count()
    model = workload.get_model()
    if probe is not None:
        probe.attach(model)
    with tempfile.TemporaryDirectory() as folder, Stopwatch(workload.device).running(model) as result:
        more = train(workload, Path(folder), model, **options)
    if workload.device != "cuda":
        del result["peak_mib"]  # that of the process, of all rows
    return {**result, **(more or {}), "threads_left": threading.active_count() - threads}


def _begin_anew(device: str) -> None:
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    # What ``Engine`` chooses for bf16, for all rows.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _write(path: Path, turns: Turns) -> None:
    settings = {**asdict(turns.workload), "turns": _TURNS}
    content = {"settings": settings, "probes": turns.probes, "turns": turns.turns, "broken": turns.broken}
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content))
    partial.replace(path)  # the process may be ended at any time


if __name__ == "__main__":
    Turns(**json.loads(sys.argv[1])).run()
