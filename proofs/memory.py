"""Whether diagnostics stay within their memory: ``python -m proofs.memory`` writes ``benchmarks/results/``."""

import argparse
import json
import logging
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import classification_diagnostics
from assay.runner import DictRunner, Engine
from benchmarks.apart import apart
from benchmarks.results import FOLDER, machine

RESULT = FOLDER / "memory-proof.json"
TIMES_DECODED = 3  # a kept sample may take so many times the bytes of its image, one byte per value


@dataclass(frozen=True)
class Case:
    """A run whose peak of memory is measured with all diagnostics and with none.

    Attributes:
        side: of the images, [3, side, side] float32.
        classes: number of classes.
        k: samples that are kept of the best, and as many of the worst.
        batch: samples per batch.
        samples: of each loader.
        most_mib: what the diagnostics may add per kept sample, or in all.
        per_sample: whether ``most_mib`` is per kept sample.
    """

    side: int
    classes: int
    k: int
    batch: int
    samples: int
    most_mib: float
    per_sample: bool

    def added_mib(self, without: float, full: float) -> float:
        """Return what the diagnostics add, as ``most_mib`` counts it."""
        return (full - without) / (2 * self.k if self.per_sample else 1)


DECODED_MIB = 3 * 8000**2 / 2**20
CASES = {
    "8,000 px, k 1": Case(8000, 3, 1, 1, 4, TIMES_DECODED * DECODED_MIB, per_sample=True),
    "8,000 px, k 3": Case(8000, 3, 3, 1, 8, TIMES_DECODED * DECODED_MIB, per_sample=True),
    "10,000 classes": Case(32, 10_000, 16, 32, 256, 1536.0, per_sample=False),
}


class Enlarged(Dataset[dict[str, Any]]):
    """Images of eight by eight random fields, made when they are read, so that the data takes no memory of its own."""

    def __init__(self, case: Case):
        self.case = case

    def __len__(self) -> int:
        return self.case.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        fields = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        image = nn.functional.interpolate(fields, (self.case.side, self.case.side))[0]
        return {"image": image, "target": index % self.case.classes, "sample_id": f"sample-{index}"}


class SmallNet(nn.Module):
    """A network that takes little memory of its own: it shrinks large images eight times."""

    def __init__(self, case: Case):
        super().__init__()
        self.shrink = nn.AvgPool2d(8) if case.side >= 512 else nn.Identity()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(8, case.classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.body(self.shrink(image)).mean((2, 3)))}


def peak_mib(level: str, **case: Any) -> float:
    """Train an epoch with the diagnostics of a level; return the most memory that this process ever held, in MiB."""
    # The peak of a process never falls, so each level is measured in a process of its own (see ``main``).
    made = Case(**case)
    logging.getLogger("assay").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    model = SmallNet(made)
    with tempfile.TemporaryDirectory() as folder:
        DictRunner().train(
            engine=Engine("cpu"),
            model=model,
            criterion=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
            loaders={key: DataLoader(Enlarged(made), made.batch) for key in ("train", "valid")},
            callbacks=classification_diagnostics(level, num_classes=made.classes, k_samples=made.k),
            logdir=folder,
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each case and write the result; return 1 if one takes more memory than it may."""
    parser = argparse.ArgumentParser(prog="python -m proofs.memory", description=__doc__)
    parser.parse_args(arguments)
    rows = {}
    for name, case in CASES.items():
        without, full = (apart("proofs.memory:peak_mib", level=level, **asdict(case)) for level in ("off", "full"))
        added = case.added_mib(without, full)
        figures = {"off_mib": without, "full_mib": full, "added_mib": added, "most_mib": case.most_mib}
        rows[name] = {key: round(value) for key, value in figures.items()} | {"proved": added < case.most_mib}
        print(f"{name:16} {json.dumps(rows[name])}", flush=True)
    content = {
        "machine": machine("cpu"),
        "added": "by all diagnostics to the peak of an epoch with none; of images per sample kept, k best and k worst",
        "cases": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return int(not all(row["proved"] for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
