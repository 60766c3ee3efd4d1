"""Tables of samples as the gallery takes them, made up, with every kind of value."""

import base64

import cv2
import numpy as np

HOSTILE = [
    '<script>document.title = "taken"</script>',
    '"><img src=x onerror=alert(1)>',
    "tab\tand\nline",
    "\u202egnp.exe",
]
CLASSES = ["ant", "bee", HOSTILE[0], "dragonfly with a long name of many letters", "earwig"]
KINDS = ["label", "missing_label", "false_label", "region", "missing_box", "false_box", "swapped_box", "duplicate"]
EPOCHS = [1, 2, 3, 4, 5, 6]
RULES = ["duplicate_images", "constant_images"]


def encoded(values):
    """Return a column of a table document."""
    if isinstance(values, list):
        return {"type": "text", "data": values}
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"type": values.dtype.name, "data": base64.b64encode(raw).decode()}


def made_columns(count=137, seed=0, classes=CLASSES):
    """Return columns of a classification, as arrays and lists of texts, and the curves of all samples."""
    random = np.random.default_rng(seed)
    width = len(classes)
    target = random.integers(0, width, count).astype(np.int32)
    logits = random.normal(0, 1.4, (len(EPOCHS), count, width))
    logits[:, np.arange(count), target] += np.linspace(0, 3, len(EPOCHS))[:, None] * random.uniform(-0.4, 1.4, count)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    own = shares[:, np.arange(count), target]
    guess = shares.argmax(axis=2)
    right = guess == target
    target[:2] = -1
    known = target >= 0
    aum = random.normal(0, 2, count)
    ranks = np.full(count, -1, np.int32)
    order = np.argsort(aum)[: count // 10]
    ranks[order] = np.arange(1, len(order) + 1)
    ids = [f"picture-{number:05d}.png" for number in range(count)]
    for place, text in enumerate(HOSTILE):
        ids[place * 3] = text
    loss = np.where(known, -np.log(own), np.nan)
    columns = {
        "index": np.arange(count, dtype=np.int32),
        "id": ids,
        "target": target,
        "prediction": guess[-1].astype(np.int32),
        "correct": np.where(known, right[-1], 255).astype(np.uint8),
        "probability": shares[-1].max(axis=1).astype(np.float32),
        "target_probability": np.where(known, own[-1], np.nan).astype(np.float32),
        "margin": np.where(known, random.normal(1, 2, count), np.nan).astype(np.float32),
        "el2n": np.where(known, random.uniform(0, 1.41, count), np.nan).astype(np.float32),
        "loss": loss[-1].astype(np.float32),
        "seen": np.full(count, len(EPOCHS), np.int32),
        "aum": aum.astype(np.float32),
        "confidence": own.mean(axis=0).astype(np.float32),
        "variability": own.std(axis=0).astype(np.float32),
        "learned": np.where(right.any(axis=0) & known, right.argmax(axis=0) + 1, -1).astype(np.int32),
        "forgetting": (right[:-1] & ~right[1:]).sum(axis=0).astype(np.int32),
        "suspect_rank": ranks,
        "likely": np.where(ranks > 0, guess[-1], -1).astype(np.int32),
        "suspect_kind": np.where(ranks > 0, (ranks - 1) % len(KINDS), -1).astype(np.int32),
        "suspect_label": np.where(ranks > 0, target, -1).astype(np.int32),
        "suspect": (ranks > 0).astype(np.uint8),
        "stuck": (~right.any(axis=0)).astype(np.uint8),
        "newly_wrong": (right[-2] & ~right[-1]).astype(np.uint8),
        "forgotten": (right[:-1].any(axis=0) & ~right[-1]).astype(np.uint8),
        "unstable": ((right[:-1] != right[1:]).sum(axis=0) > 3).astype(np.uint8),
        "easy": right.all(axis=0).astype(np.uint8),
        "findings": [
            " ".join(rule for place, rule in enumerate(RULES) if number % (7 + 4 * place) == 0)
            for number in range(count)
        ],
        "pictured": (np.arange(count) % 9 != 5).astype(np.uint8),
    }
    curves = {
        "index": list(range(count)),
        "epochs": EPOCHS,
        "loss": [[None if np.isnan(value) else float(value) for value in line] for line in loss.T],
        "target_probability": [[float(value) for value in line] for line in own.T],
        "prediction": guess.T.tolist(),
    }
    return columns, curves, shares.mean(axis=0)


def made_document(
    columns, run="made/20260101-120000", loader="valid", task="multiclass", classes=CLASSES, epoch=EPOCHS[-1]
):
    """Return a table document."""
    return {
        "run": run,
        "loader": loader,
        "task": task,
        "classes": classes,
        "epoch": epoch,
        "epochs": EPOCHS,
        "count": len(columns["id"]),
        "columns": {name: encoded(values) for name, values in columns.items()},
    }


def made_jpeg(number, size=96):
    """Return a picture that differs from number to number, as JPEG in base64."""
    random = np.random.default_rng(number)
    small = random.integers(40, 220, (4, 4, 3), dtype=np.uint8)
    picture = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    cv2.circle(picture, (size // 2, size // 2), size // 4, [int(value) for value in random.integers(0, 255, 3)], -1)
    return base64.b64encode(cv2.imencode(".jpg", picture)[1].tobytes()).decode()


def made_suspects(columns, index):
    """Return what the table of suspects says of a sample."""
    code = int(columns["suspect_kind"][index])
    told = {"label": HOSTILE[0], "likely_label": None, "score": 0.5, "where": [1.5, 2.0, 30.0, 40.0]}
    return [] if code < 0 else [{"kind": KINDS[code], **told}]


def made_loader(columns, curves, means, **options):
    """Return a loader of a report's data."""
    pictured = np.flatnonzero(columns["pictured"]).tolist()
    drawn = pictured[:10]
    return {
        "document": made_document(columns, **options),
        "curves": curves,
        "samples": {
            str(index): {
                "id": columns["id"][index],
                "file": f"/data/{index}.png",
                "mean_probability": means[index].tolist(),
                "mean_classes": None,
                "suspects": made_suspects(columns, index),
                "kinds": [],
            }
            for index in range(len(columns["id"]))
        },
        "thumbnails": {
            "index": pictured + drawn,
            "kind": ["image"] * len(pictured) + ["grad_cam"] * len(drawn),
            "jpeg": [made_jpeg(index) for index in pictured] + [made_jpeg(1000 + index) for index in drawn],
        },
    }


def made_report():
    """Return a report's data of two runs, and the columns of each."""
    runs, tables = [], []
    for place, run in enumerate(("made/20260101-120000", "made/20260102-120000")):
        columns, curves, means = made_columns(seed=0 if place == 0 else 1)
        loaders = [made_loader(columns, curves, means, run=run)]
        runs.append({"run": run, "sections": {}, "loaders": loaders})
        tables.append(columns)
    return {"made": "", "runs": runs, "compare": None}, tables
