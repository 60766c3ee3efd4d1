"""What an exported file tells about itself: how images become its input, and how its output becomes a prediction."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import albumentations as A
import numpy as np
import torch
from albumentations.core.composition import BaseCompose
from torch import Tensor

from ..data.files.images import read_image
from ..experiment.prediction_spec import BoxPrediction, ClassPrediction, MaskPrediction, Prediction

_PROBE = (64, 48)  # height and width of the picture that shows how a transform normalizes
_GREYS = (0, 255, 51)  # the third, a fifth of white, shows whether the two others tell everything
_INTERPOLATIONS = ("nearest", "linear", "cubic", "area", "lanczos")  # by OpenCV's numbers
# What makes an image the size of the input, by the steps of albumentations.
_RULES = {
    "LetterBox": "letterbox",
    "LongestMaxSize": "letterbox",
    "SmallestMaxSize": "crop",
    "CenterCrop": "crop",
    "Resize": "stretch",
}


def describe_use(prediction: Prediction, image: Tensor, output: Any) -> dict[str, Any]:
    """Return pre- and postprocessing as plain values.

    Args:
        prediction: of the experiment.
        image: an example of the input that takes images, [N, C, H, W].
        output: an example of the model's output of which the prediction is made.
    """
    return {
        "task": prediction.task,
        "class_names": list(getattr(prediction, "class_names", ())),
        "image_input": prediction.input_key,
        "output": prediction.output_key,
        "size": list(image.shape[-2:]),
        **_preprocessing(prediction, int(image.shape[1])),
        **_postprocessing(prediction, output),
    }


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return each value as a text: a text as it is, anything else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _preprocessing(prediction: Prediction, channels: int) -> dict[str, Any]:
    transform: Any = getattr(prediction, "transform", None)
    pixels = _pixels(getattr(prediction, "read", read_image))
    if isinstance(prediction, MaskPrediction) and transform is None:
        return {
            "pixels": pixels, "resize": "none" if prediction.scale == 1 else "scale", "scale": prediction.scale,
            "normalization": _FORMULA,
            "mean": _per_channel(prediction.mean, channels), "std": _per_channel(prediction.std, channels),
            "divisor": prediction.divisor,
        }  # fmt: skip
    described = {"pixels": pixels, **_resizing(transform)}
    if isinstance(prediction, BoxPrediction) and described.get("padding") == "none":
        described["padding"] = _OF_DETECTORS
    mean_and_std = _normalization(transform, channels) if pixels in (_RGB, _GREY) else None
    if mean_and_std is not None:
        described |= {"normalization": _FORMULA, "mean": mean_and_std[0], "std": mean_and_std[1]}
    return described


_OF_DETECTORS = {"position": "top_left", "fill": 0}  # as torchvision batches images of several sizes
_FORMULA = "(pixel / 255 - mean) / std"
_RGB, _GREY = "RGB, 0 to 255, upright", "grey, 0 to 255, upright"


def _pixels(read: Callable[..., Any]) -> str:
    """Return what a reader returns, in words; the name of a reader that is not ``read_image``."""
    plain = read.func if isinstance(read, partial) else read
    if plain is read_image:
        return _GREY if isinstance(read, partial) and read.keywords.get("grey") else _RGB
    return f"as {_name_of(plain)} reads them"


def _per_channel(value: Any, channels: int) -> list[float]:
    return [float(one) for one in np.broadcast_to(np.asarray(value, dtype=np.float64), (channels,))]


def _normalization(transform: Callable[..., Any], channels: int) -> tuple[list[float], list[float]] | None:
    """Return mean and std by channel, as pictures of one grey show them; None where it is no such normalization."""
    try:
        black, white, dark = (_transformed_grey(transform, grey, channels) for grey in _GREYS)
    except Exception:  # noqa: BLE001 - a transform of the user's own may take no such picture, and raise anything
        return None
    span = white - black
    if not np.all(span) or not np.allclose(black + span / 5, dark, atol=1e-4 * float(np.abs(span).max())):
        return None
    std = 1 / span
    return [round(float(it), 6) for it in -black * std], [round(float(it), 6) for it in std]


def _transformed_grey(transform: Callable[..., Any], grey: int, channels: int) -> np.ndarray:
    found = torch.as_tensor(transform(image=np.full((*_PROBE, channels), grey, dtype=np.uint8))["image"])
    # In the middle, as the border may be filled up.
    return found[:, found.shape[1] // 2, found.shape[2] // 2].double().numpy()


def _resizing(transform: Any) -> dict[str, Any]:
    steps = list(_steps(transform))
    rules = [_RULES[name] for step in steps if (name := type(step).__name__) in _RULES]
    if not isinstance(transform, BaseCompose | A.BasicTransform):
        return {"resize": f"as {_name_of(transform)} does"}
    told: dict[str, Any] = {"resize": "crop" if "crop" in rules else rules[0] if rules else "none"}
    if rules:
        ways = [
            step.interpolation for step in steps if type(step).__name__ in _RULES and hasattr(step, "interpolation")
        ]
        told["interpolation"] = _INTERPOLATIONS[ways[0]] if ways else "none"
        told["padding"] = next((_padding(step) for step in steps if isinstance(step, A.PadIfNeeded)), "none")
    return told | _serialized(transform)


def _serialized(transform: Any) -> dict[str, Any]:
    """Return the steps, of which ``albumentations.from_dict`` makes the transform again; nothing where it cannot."""
    try:
        steps = A.to_dict(transform)
        _leave_out_refused(steps["transform"])
        json.dumps(steps)
    except (TypeError, ValueError, NotImplementedError):  # a step of the user's own, such as a Lambda
        return {}
    return {"transform": steps}


def _leave_out_refused(step: dict[str, Any]) -> None:
    """Take out what albumentations writes of a padding, and then warns of when it reads it."""
    for part in step.get("transforms", []):
        _leave_out_refused(part)
    if step.get("__class_fullname__") == "PadIfNeeded":
        step.pop("padding", None)


def _name_of(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _padding(step: Any) -> dict[str, Any]:
    return {"position": step.position, "fill": step.fill}


def _steps(transform: Any) -> Iterator[Any]:
    for step in getattr(transform, "transforms", [transform]):
        yield from _steps(step) if isinstance(step, BaseCompose) else [step]


def _postprocessing(prediction: Prediction, output: Any) -> dict[str, Any]:
    if isinstance(prediction, BoxPrediction):
        boxes = "left, top, right, bottom in pixels of the input"
        return {
            "activation": "none",
            "threshold": prediction.min_score,
            "max_boxes": prediction.max_boxes,
            "boxes": boxes,
        }
    single = output.ndim == 1 or output.shape[1] == 1
    if isinstance(prediction, MaskPrediction):
        return {"activation": "sigmoid", "threshold": prediction.threshold} if single else {"activation": "softmax"}
    if isinstance(prediction, ClassPrediction) and not prediction.multilabel and not single:
        return {"activation": "softmax"}
    return {"activation": "sigmoid", "threshold": 0.5}
