"""``assay export``: write the model of a run to a file that runs without assay, and check the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn.functional import interpolate

from assay.callbacks.keys import pick
from assay.callbacks.support.atomic_files import replacing
from assay.callbacks.support.unwrap import by_name

from ..data.seeding import seed_everything
from ..experiment.base import Experiment
from ..experiment.prediction_spec import BoxPrediction, MaskPrediction, Prediction
from ..loop.checks.finite_weights import check_finite_weights
from ..loop.state.run_state import load_models
from ..recipe.fine_tuning.pretrained import weights_follow
from ..saving.checkpoint_files import load_checkpoint, validated_weights
from ..version import __version__
from .comparison import NONE, Difference, compare_boxes, compare_outputs
from .failures import explained, first_line
from .formats import Run, onnx_bytes, open_onnx, open_program, program_bytes
from .graph import BOX_PARTS, Graph, capture, find_inputs
from .metadata import describe_use
from .options import OPSET, ExportOptions
from .samples import Samples, draw_samples

LIMIT = 1e-3
"""The largest difference between file and model at which the file is kept."""

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export has written, and how far it is from the model.

    Attributes:
        path: the file; it is not there where ``difference`` is above ``LIMIT``.
        lines: the result in words.
        difference: the largest one between an output of the file and that of the model.
    """

    path: Path
    lines: list[str]
    difference: Difference

    @property
    def is_written(self) -> bool:
        """Whether the file gives what the model gives, and so is there."""
        return self.difference.value <= LIMIT


def export_model(experiment: Experiment, checkpoint: Path, options: ExportOptions) -> Exported:
    """Export the model of a run on the CPU in fp32, and compare the file with the model on validation samples.

    Args:
        experiment: of the run.
        checkpoint: the file with the weights: as in ``assay evaluate``, the moving average where there is one.
        options: what to write, and where to.

    Raises:
        UsageError: wrong use; the model cannot be exported.
        BrokenWeightsError: the weights are not finite.
    """
    model = _Model(experiment, checkpoint)
    with explained(options.format):
        model.capture()
        content = model.encode(options)
    difference, compared = Difference(np.inf, ""), 0
    with suppress(_TooDifferentError), _new_folder(options.path.parent), replacing(options.path) as temporary:
        _write(temporary, content)
        with explained(options.format):
            run = open_onnx(temporary, model.outputs) if options.format == "onnx" else open_program(temporary)
            difference, compared = model.compare(run)
        if difference.value > LIMIT:
            raise _TooDifferentError
    return Exported(path=options.path, lines=_in_words(model, options, difference, compared), difference=difference)


class _TooDifferentError(Exception):
    """The file does not give what the model gives."""


class _Model:
    """The model of a run as a graph, with validation samples, and what is captured of it.

    Args:
        experiment: of the run.
        checkpoint: the file with the weights.
    """

    program: ExportedProgram
    dynamic = True  # whether the program takes any number of samples
    step = 0  # what height and width may be any multiples of; 0: they are fixed
    note = ""  # what the user should know of the program
    found = 0  # boxes in the samples that were compared

    def __init__(self, experiment: Experiment, checkpoint: Path):
        self.experiment = experiment
        self.prediction: Prediction = experiment.get_prediction()
        self.detects = isinstance(self.prediction, BoxPrediction)
        state = load_checkpoint(checkpoint)
        self.epoch = state["epoch"]
        seed_everything(experiment.seed)
        self.samples: Samples = draw_samples(experiment.get_loaders(), experiment.seed)
        with weights_follow():
            models = experiment.get_model()
        load_models(models, validated_weights(state))
        check_finite_weights(by_name(models), f"checkpoint {checkpoint}")
        for part in by_name(models).values():
            part.float().eval().requires_grad_(False)
        targets = {term.target for term in experiment.get_losses()}
        inputs = find_inputs(models, experiment.input_key, self.samples.batches[0], targets)
        self.graph = Graph(models, experiment.input_key, inputs)
        self.example: Tensors = tuple(tensor[:1] for tensor in self._inputs_of(self.samples.batches[0]))
        self.expected = self.graph.run(self.example)
        self.outputs = list(self.expected)

    def _inputs_of(self, batch: Any) -> Tensors:
        return tuple(_in_fp32(pick(batch, name, "export")) for name in self.graph.inputs)

    def capture(self) -> None:
        """Capture the graph for any size and number of samples, as far as the model lets it."""
        if self.detects:
            self.note = "takes one image at a time, as an exported detector does"
        else:
            if isinstance(self.prediction, MaskPrediction) and self._capture_any_size(self.prediction.divisor):
                return
            try:
                self.program = capture(self.graph, self.example, dynamic=True)
                return
            except Exception as error:  # noqa: BLE001 - of any kind; what remains below is reported
                self.note = f"takes one sample at a time, as the model fixes the number: {first_line(error)}"
        self.dynamic = False
        self.program = capture(self.graph, self.example, dynamic=False)

    def _capture_any_size(self, step: int) -> bool:
        """Capture the graph for images whose sides are multiples of a number; return whether it can be."""
        if len(self.example) > 1 or self.example[0].ndim != 4:
            return False
        height, width = self.example[0].shape[-2:]
        if height % step or width % step or min(height, width) < 2 * step:
            self.note = f"takes images of {height} x {width} alone, no multiples of {step} from {2 * step} on"
            return False
        try:
            self.graph.run(_enlarged(self.example, step))
            self.program = capture(self.graph, self.example, dynamic=True, step=step)
        except Exception as error:  # noqa: BLE001 - of any kind; it is reported
            self.note = f"takes images of {height} x {width} alone, as the model fixes the size: {first_line(error)}"
            return False
        self.step = step
        self.note = f"takes any height and width that are multiples of {step}, from {2 * step} on"
        return True

    def encode(self, options: ExportOptions) -> bytes:
        """Return the file."""
        if options.format != "onnx":
            return program_bytes(self.program, self.metadata())
        opset = options.opset or OPSET
        return onnx_bytes(self.program, self.graph.inputs, self.outputs, self.metadata(), opset)

    def metadata(self) -> dict[str, Any]:
        """Return what the file tells of itself, as plain values."""
        names = self.graph.inputs
        image = pick(dict(zip(names, self.example, strict=True)), self.prediction.input_key, "get_prediction", "model")
        output = None if self.detects else pick(self.expected, self.prediction.output_key, "get_prediction", "model")
        return {
            "made_by": f"assay {__version__}",
            "experiment": type(self.experiment).__name__,
            "epoch": self.epoch,
            "inputs": self.shapes(dict(zip(names, self.example, strict=True))),
            "outputs": self.shapes(self.expected),
            **describe_use(self.prediction, image, output),
            **({"size_multiple": self.step} if self.step else {}),
        }

    def shapes(self, tensors: dict[str, Tensor]) -> dict[str, list[int | str]]:
        """Return the sizes of tensors by name, with a word for a size that is not fixed."""
        first: dict[str, int | str] = {name: "boxes" for name in BOX_PARTS if self.detects}
        return {
            name: [first.get(name, "batch" if self.dynamic else len(tensor)), *self._sizes_of(tensor)]
            for name, tensor in tensors.items()
        }

    def _sizes_of(self, tensor: Tensor) -> list[int | str]:
        """Return the sizes of a sample."""
        if self.step and tensor.shape[2:] == self.example[0].shape[2:]:
            return [tensor.shape[1], "height", "width"]
        return [*tensor.shape[1:]]

    def compare(self, run: Run) -> tuple[Difference, int]:
        """Return the largest difference of a file from the model, and the number of samples compared."""
        worst, count = NONE, 0
        for tensors in self._parts():
            expected = {name: value.numpy() for name, value in self.graph.run(tensors).items()}
            worst = max(worst, self._difference(expected, run(tensors), max(tensors[0].shape[-2:])))
            self.found += len(expected["boxes"]) if self.detects else 0
            count += len(tensors[0])
        if self.step:
            larger = _enlarged(self.example, self.step)
            expected = {name: value.numpy() for name, value in self.graph.run(larger).items()}
            worst = max(worst, self._difference(expected, run(larger), max(larger[0].shape[-2:])))
        return worst, count

    def _parts(self) -> Iterator[Tensors]:
        """Yield the inputs of the samples whose size is that of the example, as many at a time as the file takes."""
        for batch in self.samples.batches:
            tensors = self._inputs_of(batch)
            if any(of.shape[1:] != like.shape[1:] for of, like in zip(tensors, self.example, strict=True)):
                continue
            yield from [tensors] if self.dynamic else zip(*(tensor.split(1) for tensor in tensors), strict=True)

    def _difference(self, expected: dict[str, np.ndarray], found: dict[str, np.ndarray], side: float) -> Difference:
        if not self.detects:
            return compare_outputs(expected, found)
        others = {name: value for name, value in expected.items() if name not in BOX_PARTS}
        return max(compare_outputs(others, found), compare_boxes(expected, found, side))


def _enlarged(tensors: Tensors, step: int) -> Tensors:
    """Return images with longer sides: the file must take other sizes than that of validation."""
    height, width = tensors[0].shape[-2:]
    return tuple(interpolate(tensor, (height + step, width + 2 * step), mode="bilinear") for tensor in tensors)


def _in_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _in_words(model: _Model, options: ExportOptions, difference: Difference, compared: int) -> list[str]:
    where = f" in {difference.what}" if difference.value else ""
    also = ", and on one of them enlarged" if model.step else ""
    also = f", in which the model finds {model.found:,} boxes" if model.detects else also
    checked = (
        f"checked on {compared} of {model.samples.total} validation samples{also}: "
        f"it differs from the model by at most {difference.value:.3g}{where}"
    )
    if model.detects and not model.found:
        checked += "; no box was compared: export it again when the model finds some"
    if difference.value > LIMIT:
        return [f"{checked}, and the limit is {LIMIT:g}: {options.path} is not written"]
    kind = f"ONNX, opset {options.opset or OPSET}" if options.format == "onnx" else f"torch.export, {torch.__version__}"
    exported = f"exported the weights of epoch {model.epoch}: {options.path} ({kind})"
    sides = (model.shapes(dict(zip(model.graph.inputs, model.example, strict=True))), model.shapes(model.expected))
    signature = " -> ".join(", ".join(f"{name} {_sizes(sizes)}" for name, sizes in side.items()) for side in sides)
    notes = [f"  {model.note}"] if model.note else []
    return [exported, f"  {signature}", *notes, checked]


def _sizes(sizes: list[int | str]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the block; after an error, remove it again where it was not there."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):  # it may hold what another process has put there
                folder.rmdir()
        raise


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # before it is renamed
