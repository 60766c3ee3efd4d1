"""Whether wrong boxes are found: ``python -m proofs.wrong_boxes`` writes ``benchmarks/results/``."""

import argparse
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from assay.callbacks import SampleHistory
from assay.callbacks.history.files import SampleFiles
from assay.callbacks.history.suspect_boxes import find_box_suspects
from assay.callbacks.history.suspects import Suspects
from assay.callbacks.measures.box_matching import box_iou
from assay.experiments.detect import Detect
from assay.experiments.detectors import DETECTIONS
from assay.runner import DictRunner, Engine
from benchmarks.results import FOLDER, machine

from .made_scenes import NAMES, SIDE, Planted, make_pictures, plant_wrong, write_coco

RESULT = FOLDER / "wrong-boxes-proof.json"
COUNT, SEED, EPOCHS, AT, SHARE = 300, 0, 14, (7, 14), 0.05
KINDS = ("missing_box", "false_box", "swapped_box")
LEAST_PRECISION = {"missing_box": 0.6, "swapped_box": 0.9}
"""Share of the suspects at the last epoch that must be planted ones; of false boxes none is asked for."""
MOST_SOUND = 0.05  # suspects per picture, where no box is wrong
_RECENT = 3


def train(folder: Path, share: float) -> list[Planted]:
    """Train a detector on pictures of which a share of the boxes is wrong in each way, and write their history."""
    data = folder / "data"
    data.mkdir()
    pictures, boxes = make_pictures(COUNT, SEED)
    boxes, planted = plant_wrong(boxes, share, SEED)
    write_coco(data, pictures, boxes)
    experiment = Detect(
        data_dir=str(data), image_size=SIDE, channels=32, valid_share=0.4, epochs=EPOCHS, seed=SEED, device="cpu"
    )
    torch.manual_seed(SEED)
    loaders, model = experiment.get_loaders(), experiment.get_model()
    optimizer = experiment.get_optimizer(model)
    history = SampleHistory(
        "detection", output_key=DETECTIONS, min_score=experiment.min_score, class_names=NAMES, **_shown()
    )
    DictRunner(input_key=experiment.input_key, losses=experiment.get_losses()).train(
        model=model,
        loaders=loaders,
        criterion=None,
        optimizer=optimizer,
        scheduler=experiment.get_scheduler(optimizer, len(loaders["train"])),
        callbacks={"history": history},
        num_epochs=EPOCHS,
        logdir=str(folder),
        seed=SEED,
        engine=Engine("cpu"),
    )
    return planted


def _shown() -> dict[str, Any]:
    from assay.experiments.own_pictures import MEAN, STD

    return {"mean": MEAN, "std": STD}


def figures(folder: Path, planted: Sequence[Planted], epoch: int) -> dict[str, Any]:
    """Return how well wrong boxes of the validation pictures are ranked and flagged after an epoch."""
    import pyarrow.parquet as pq

    files = SampleFiles(folder / "samples" / "valid")
    ids = pq.read_table(files.folder / "ids.parquet")["id"].to_pylist()
    recent = files.recent(EPOCHS)[max(0, epoch - _RECENT) : epoch]
    wrong = {kind: [of for of in planted if of.kind == kind and of.picture in ids] for kind in KINDS}
    suspects, last = find_box_suspects(recent) or Suspects.joined([]), recent[-1]
    is_swapped = [np.isfinite(of["doubt_likely"]) for of in recent]
    orders = {
        "missing_box": [of["extra_score"] for of in recent],
        "false_box": [np.where(found, 0, of["doubt"]) for of, found in zip(recent, is_swapped, strict=True)],
        "swapped_box": [np.where(found, of["doubt"], 0) for of, found in zip(recent, is_swapped, strict=True)],
    }
    baselines = {
        "average precision of the picture": -np.nan_to_num(last["score"], nan=1.0),
        "missed": last["missed"],
        "false": last["false"],
    }
    rows: dict[str, Any] = {
        "pictures": len(ids),
        "mean average precision": round(float(np.nanmean(last["score"])), 3),
    }
    for kind in KINDS:
        rows[kind] = _flagged(suspects, kind, ids, wrong[kind])
        has_wrong = np.isin(ids, [of.picture for of in wrong[kind]])
        if has_wrong.any():
            ranked = {"evidence": np.nan_to_num(np.array(orders[kind])).mean(axis=0), **baselines}
            rows[kind] |= {
                "average precision by picture": {
                    name: round(float(average_precision_score(has_wrong, order)), 3) for name, order in ranked.items()
                }
            }
    return rows


def _flagged(suspects: Suspects, kind: str, ids: Sequence[str], wrong: Sequence[Planted]) -> dict[str, Any]:
    found: set[Planted] = set()
    flagged = [
        (ids[index], np.array([place.split()], np.float64))
        for index, of, place in zip(suspects.index.tolist(), suspects.kinds, suspects.places, strict=True)
        if of == kind
    ]
    for name, box in flagged:
        found |= {of for of in wrong if of.picture == name and box_iou(box, np.array([of.box]))[0, 0] >= 0.5}
    return {"planted": len(wrong), "suspects": len(flagged), "of these planted": len(found)}


def proved(wrong: Mapping[str, Any], sound: Mapping[str, Any]) -> bool:
    """Whether suspects are mostly planted in the end, baselines rank worse, and sound boxes have few of them."""
    last, of_sound = wrong[str(AT[-1])], sound[str(AT[-1])]
    is_precise = all(
        last[kind]["of these planted"] >= least * last[kind]["suspects"] > 0 for kind, least in LEAST_PRECISION.items()
    )
    orders = [last[kind]["average precision by picture"] for kind in KINDS]
    is_ranked = all(order["evidence"] > max(of for name, of in order.items() if name != "evidence") for order in orders)
    few = sum(of_sound[kind]["suspects"] for kind in KINDS) <= MOST_SOUND * of_sound["pictures"]
    return is_precise and is_ranked and few


def measure(share: float) -> dict[str, Any]:
    """Train on pictures of which a share of the boxes is wrong, and return the figures by epoch."""
    with tempfile.TemporaryDirectory() as name:
        planted = train(Path(name), share)
        return {str(epoch): figures(Path(name), planted, epoch) for epoch in AT}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the result; return 1 if wrong boxes are found less well than they are to be."""
    parser = argparse.ArgumentParser(prog="python -m proofs.wrong_boxes", description=__doc__)
    parser.parse_args(arguments)
    rows = {"wrong": measure(SHARE), "sound": measure(0.0)}
    is_proved = proved(rows["wrong"], rows["sound"])
    content = {
        "machine": machine("cpu"),
        "data": f"{COUNT} made pictures of {SIDE} px with ellipses, rectangles and triangles, two of five to validate "
        f"on; {SHARE:.0%} of the boxes missing, as many of another class, and as many false ones, in training too",
        "values": "by epoch; suspects count as planted where they overlap a planted box of the kind by 0.5 or more",
        "rows": rows,
        "proved": is_proved,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(rows, indent=1))
    return int(not is_proved)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    raise SystemExit(main())
