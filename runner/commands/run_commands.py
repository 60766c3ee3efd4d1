"""Command line of the commands that use a run: ``assay evaluate``, ``predict``, ``export`` and ``report``."""

import argparse
import os
from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError

from ..export.options import LAST_OPSET, LEAST_OPSET, OPSET, SUFFIXES, ExportOptions
from ..processes.exit_codes import FAILED
from .quick_imports import quick_imports

USE_COMMANDS = ("evaluate", "predict", "export", "report")

_EVALUATE = "assay evaluate RUN [--loader valid] [--checkpoint best|last|FILE] [--data-dir DIR] [--device DEVICE]"
_PREDICT = (
    "assay predict RUN --input PATH [PATH ...] --output DIR [--checkpoint best|last|FILE ...] "
    "[--ensemble outputs|weights] [--tile N --overlap N] [--tta none|flips|d4] [--precision fp32|tf32|bf16|fp16] "
    "[--batch-size N] [--device auto|cpu|cuda] [--truth PATH]"
)
_EXPORT = (
    "assay export RUN [--format onnx|torch-export] [--output FILE] [--opset N] [--checkpoint best|last|FILE] "
    "[--data-dir DIR]"
)
_REPORT = "assay report RUN [RUN ...] [--output FILE]"
_COMPARISON = "comparison.html"  # of several runs
_CHECKPOINT = "best, last, a file of the run's checkpoints, or a path to one"


def add_use_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    evaluate = commands.add_parser(
        "evaluate", help="compute metrics and pictures of a run again", usage=_EVALUATE, allow_abbrev=False
    )
    _add_run(evaluate)
    evaluate.add_argument("--loader", default="valid", metavar="NAME", help="a loader of the experiment")
    evaluate.add_argument("--checkpoint", default="best", metavar="FILE", help=_CHECKPOINT)
    evaluate.add_argument("--data-dir", metavar="DIR", help="where the data is now; by default where it was")
    evaluate.add_argument("--device", help="auto, cpu or cuda; by default as in the run, where it has that device")
    predict = commands.add_parser("predict", help="use a run on images", usage=_PREDICT, allow_abbrev=False)
    _add_run(predict)
    _add_predict_options(predict)
    export = commands.add_parser(
        "export",
        help="write the model of a run to a file, and check it",
        usage=_EXPORT,
        allow_abbrev=False,
    )
    _add_run(export)
    _add_export_options(export)
    report = commands.add_parser(
        "report", help="make one HTML file about a run, or several side by side", usage=_REPORT, allow_abbrev=False
    )
    _add_report_options(report)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    several: dict[str, Any] = {"nargs": "+", "action": "extend"}
    add = parser.add_argument
    add("--input", required=True, metavar="PATH", help="files, folders, or patterns in quotes: 'a/**/*.png'", **several)
    add("--output", required=True, metavar="DIR", help="folder for predictions.csv, or for the masks")
    add("--checkpoint", metavar="FILE", help=f"{_CHECKPOINT}; several make an ensemble. By default best", **several)
    add("--ensemble", metavar="KIND", help="what to average over several checkpoints: outputs (default) or weights")
    add("--tile", type=int, metavar="N", help="segmentation: side of the tiles in pixels; by default the experiment's")
    add("--overlap", type=int, metavar="N", help="segmentation: overlap of tiles; by default a quarter of --tile")
    add("--tta", metavar="KIND", help="mean over mirrored views: none (default), flips (3), or d4 (8, with rotations)")
    add("--precision", metavar="KIND", help="fp32 (default), tf32, bf16, or fp16 on a GPU")
    add("--batch-size", type=int, metavar="N", help="images, or tiles, per batch")
    add("--device", help="auto (default: a GPU if there is one), cpu or cuda")
    add("--truth", metavar="PATH", help="score by this table of id,label, folder of masks, or boxes in any layout")


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    kind: Any = add("--format", metavar="KIND", help="onnx (default), or torch-export, a program of torch.export")
    kind.completer = lambda **_: SUFFIXES  # not choices: argparse's own error does not name the closest word
    add("--output", metavar="FILE", help="by default RUN/export/best.onnx, or .pt2")
    add("--opset", type=int, metavar="N", help=f"of ONNX, {LEAST_OPSET} to {LAST_OPSET}; by default {OPSET}")
    add("--checkpoint", metavar="FILE", help=f"{_CHECKPOINT}. By default best")
    add("--data-dir", metavar="DIR", help="where the data is now, to check the file on it; by default where it was")


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder, also of a run that was killed")
    default = f"by default RUN/report.html; of several runs {_COMPARISON} in the first one"
    parser.add_argument("--output", metavar="FILE", help=default)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def run_use_command(parsed: argparse.Namespace) -> tuple[list[str], int]:
    """Run the command; return the lines to print, and the exit code."""
    if parsed.command == "report":
        return _make_report(parsed)
    from ..saving.run_folder import check_run

    check_run(Path(parsed.run))  # before torch is imported
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # our own line about an unreadable image suffices
    run = {"evaluate": _evaluate_run, "predict": _predict_images, "export": _export_run}[parsed.command]
    return run(parsed)


def _evaluate_run(parsed: argparse.Namespace) -> tuple[list[str], int]:
    with quick_imports():
        from ..loop.fault_messages import quiet_event_threads
        from ..processes.process_exit import end_with_launcher
        from .evaluate import evaluate

    end_with_launcher()
    options = {name: getattr(parsed, name) for name in ("loader", "checkpoint", "data_dir", "device")}
    with quiet_event_threads():
        done = evaluate(parsed.run, **options)
    if os.environ.get("RANK", "0") != "0":  # all ranks have the same metrics
        return [], 0
    return [f"{parsed.loader}, weights of epoch {done.epoch}", *done.lines()], 0


def _predict_images(parsed: argparse.Namespace) -> tuple[list[str], int]:
    with quick_imports():
        from .predict import PredictOptions, predict

    outcome = predict(parsed.run, PredictOptions(**_given_options(parsed)))
    return [outcome.summary(parsed.output)], FAILED if outcome.unreadable else 0


def _export_run(parsed: argparse.Namespace) -> tuple[list[str], int]:
    given = _given_options(parsed)
    data_dir = given.pop("data_dir", None)
    options = ExportOptions(run=parsed.run, **given)  # before torch is imported
    with quick_imports():
        from ..export.export import export_model
        from .reopen import checkpoint_path, reopen

    experiment = reopen(Path(parsed.run), data_dir=data_dir, device="cpu")
    done = export_model(experiment, checkpoint_path(Path(parsed.run), options.checkpoint), options)
    return done.lines, 0 if done.is_written else FAILED


def _make_report(parsed: argparse.Namespace) -> tuple[list[str], int]:
    from assay.callbacks.gallery.report.page import REPORT, write_report

    runs = [Path(run) for run in parsed.runs]
    if len({run.resolve() for run in runs}) < len(runs):
        raise UsageError("RUN names each run folder once, and one of them is named twice: leave it out.")
    default = runs[0] / (REPORT if len(runs) == 1 else _COMPARISON)
    output = Path(parsed.output) if parsed.output is not None else default
    if output.is_dir():
        raise UsageError(f"--output {output} must be a file, and is a folder: name a file in it, as {output / REPORT}.")
    size = write_report(runs, output)
    return [f"{output} ({size / 1e6:.1f} MB)"], 0


def _given_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return what was given: the defaults stand with the options of each command alone."""
    others = ("command", "run", "debug", "version")
    return {name: value for name, value in vars(parsed).items() if value is not None and name not in others}
