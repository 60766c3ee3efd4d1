"""The formats of exported files: how each is made of a captured program, written, opened and run."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from assay.callbacks.errors import UsageError

from .metadata import as_texts

PROGRAM_METADATA = "assay.json"
"""The name of the metadata in a ``torch.export`` program, in its ``extra_files``."""

Run = Callable[[Sequence[Tensor]], dict[str, np.ndarray]]
_SIZES = ("batch", "channels", "height", "width")  # by their place
_LOGGERS = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")


def onnx_bytes(
    program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], metadata: Mapping[str, Any], opset: int
) -> bytes:
    """Return a program as an ONNX file, with its metadata in ``metadata_props``.

    Args:
        program: of ``capture``.
        inputs: names of the inputs, in order.
        outputs: names of the outputs, in order.
        metadata: plain values by name.
        opset: of ONNX.

    Raises:
        UsageError: the opset cannot be had, or the file would be too large for the format.
    """
    _drop_idle_squeezes(program)
    with quiet():
        made: Any = torch.onnx.export(
            program,
            (),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
        model = made.model_proto
    _check_opset(model, opset)
    _name_sizes(model.graph)
    for name, text in as_texts(metadata).items():
        model.metadata_props.add(key=name, value=text)
    try:
        return bytes(model.SerializeToString())
    except ValueError as error:
        raise UsageError(
            f"an ONNX file holds at most 2 GiB, and this model is larger ({error}): choose --format torch-export."
        ) from error


def _drop_idle_squeezes(program: ExportedProgram) -> None:
    """Take out each ``squeeze`` of a dimension that is longer than 1: torch ignores it, and ONNX refuses it."""
    for node in list(program.graph.nodes):
        if node.target is not torch.ops.aten.squeeze.dim:
            continue
        source, size = node.args[0], node.args[0].meta["val"].shape[node.args[1]]
        if isinstance(size, int) and size != 1:
            node.replace_all_uses_with(source)
            program.graph_signature.replace_all_uses(node.name, source.name)
            program.graph.erase_node(node)
    program.graph_module.recompile()


def _check_opset(model: Any, opset: int) -> None:
    found = next(it.version for it in model.opset_import if it.domain in ("", "ai.onnx"))
    if found != opset:  # the converter gives up without an error
        raise UsageError(f"--opset {opset}: this model cannot be converted to it; it has opset {found}: leave it out.")


def _name_sizes(graph: Any) -> None:
    """Name the sizes that are not fixed, batch, height and width, wherever torch calls them by a symbol."""
    names: dict[str, str] = {}
    for value in graph.input:
        for place, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                names.setdefault(size.dim_param, _SIZES[place])
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in names:
                size.dim_param = names[size.dim_param]


def open_onnx(path: Path, outputs: Sequence[str]) -> Run:
    """Return what runs an ONNX file on the CPU, by onnxruntime."""
    import onnxruntime  # an extra, and slow to import

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return dict(zip(outputs, session.run(list(outputs), given), strict=True))

    return run


def program_bytes(program: ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    """Return a program as a file of ``torch.export.save``, with its metadata as JSON in ``PROGRAM_METADATA``."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={PROGRAM_METADATA: json.dumps(metadata)})
    return buffer.getvalue()


def open_program(path: Path) -> Run:
    """Return what runs a file of ``torch.export.save``."""
    with quiet(), open(path, "rb") as file:
        module = torch.export.load(file).module()

    def run(tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: tensor.numpy() for name, tensor in module(*tensors).items()}

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from reporting on each step of an export, within the block."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
