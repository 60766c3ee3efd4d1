"""GradCAM: where the network looks at the worst samples of every epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor, nn

from ..base.model_call import ModelCall
from ..base.order import EXPLANATIONS
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.samples import draw_heat, draw_samples
from ..drawings.tasks.find_task import TASKS, find_task
from ..errors import UsageError, unknown_name
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures.best_worst_samples import Sample
from ..measures.explained_layer import FOLLOWS, Layer, find_layer, read_module
from ..measures.explained_score import explained_number, explained_score, repeated_score
from ..measures.grad_cam import REASONS, heat_maps, undisturbed
from ..measures.image_input import for_one_pass
from ..measures.image_layouts import FORMS, KINDS, Function
from ..measures.overhead_budget import PICTURES
from ..support.class_names import check_names
from ..support.runner_view import input_keys
from ..support.unwrap import use_plain_modules
from ..tensorboard.writer import Writer
from .best_worst_samples import draw_ranking, ranking_title
from .sample_ranking import PICTURE_SIDE, Ranking, SamplePicture, SampleRanking, Score, without_input
from .target_kind import target_kind

_EXPLAIN = ("predicted", "true")
_EXPLAINED = tuple(task for task in TASKS if task != "detection")
_NO_LAYER = (
    "GradCAM draws nothing: no layer of the model gives a map of the image that the output depends on; "
    "name one by layer, and how it is read by reshape."
)

_ANY_FORM = "a map of more than one place, [N, C, h, w], [N, h, w, C] or tokens [N, L, C]"
_PLACES = {"nchw": "places", "nhwc": "places", "tokens": "tokens", "windows": "tokens", "function": "places"}


class GradCAM(SampleRanking):
    """Shows with Grad-CAM where the network looks at the k worst samples of every epoch, for each loader.

    The samples are those of ``BestWorstSamples`` with the same arguments; used together, both share one ranking. The
    maps are computed at the end of the loader, in one pass over the k samples with the weights at that time and in eval
    mode, so the prediction may differ from that in the epoch. They leave no trace: weights, ``.grad``, buffers, random
    numbers, modes and hooks stay bit for bit what they were. Inference loaders are skipped.

    The layer that explains is found once per image size, by changing one quarter of an image at a time. It is the last
    layer of which each place changes most with its own part of the image, and on which the output depends in more than
    one place; for masks it is the last one before the classes. Its map is that of Grad-CAM.

    A network that cuts the image into patches, as ViT, Swin and ConvNeXt do, moves what it finds to other places, so
    that its last layers do not show where it was. It is explained by the last layer whose places see only their own
    part of the image: a map, [N, C, h, w] or [N, h, w, C], or tokens [N, L, C] with any number of others (CLS,
    registers) before those of the image. The map is how much each place adds to what is explained, by integrated
    gradients from the mean of the places; see ``measures.grad_cam.heat_maps`` for both formulas. The title of the
    picture names the layer. If nothing speaks for what is explained, or if there is no gradient, the map is 0: the
    image is then shown without colours, and its card gives the reason.

    A colour means the same number in all maps of a picture, which the bar of colours gives: what a place adds to the
    score that is explained, such as a logit; its colour goes by the square root. The number is exact where the places
    of the layer are averaged and then weighted, and an approximation in other networks. A map that is too weak to be
    seen beside the strongest has its largest number on its card.

    ``make proofs`` trains small ones of timm and torchvision on planted evidence: the peak was on it in at least 90% of
    the images of each, CNN, ConvNeXt, ViT, Swin, SwinV2 and U-Net. Hybrids of convolutions and attention whose patches
    overlap (MaxViT, CoAtNet, PoolFormer) are explained as CNNs are; nothing was measured of them.

    =========================== ===== ==================================================================================
    tag, in the loader's folder kind  step and content
    =========================== ===== ==================================================================================
    ``7_grad_cam/worst/SCORE``  image epoch; one grid, [H, W, 3] uint8 RGB, the worst first: each map over its image
                                      in grey, from 0 to the largest of the picture; the title names the layer
    =========================== ===== ==================================================================================

    Args:
        score: see ``BestWorstSamples``.
        minimize: whether a smaller score is better.
        k_samples: how many samples are shown, at least 1.
        model: which of several models is explained, such as ``student``; None: the only one, or all that take part in
            the runner's ``forward``, as in ``DictRunner``. A runner without ``forward`` has its model called with the
            images alone.
        layer: name of the layer, as in ``model.named_modules()`` (with several models ``MODEL.LAYER``); None: see
            above. If there is none, as in an MLP, nothing is drawn, and one warning is logged (logger ``assay``). Late
            layers of a transformer or a ConvNeXt seldom show where the evidence was.
        reshape: how the output of the layer is read: ``nchw`` ([N, C, h, w]), ``nhwc`` ([N, h, w, C]), ``tokens``
            ([N, L, C]), or, with ``layer``, a function that makes it [N, C, h, w], for the map of Grad-CAM; None: found
            out, see above.
        explain: what the map shows the evidence for. ``predicted``: the predicted class; ``true``: the true class; a
            number: the class of that number. For masks it is the class of the most pixels, class 0 (by convention the
            background) only if there is no other, summed over its pixels; for binary masks it is class 1, over all
            pixels if it has none. For a regression it is the output, or the output of that number.
        task: see ``BestWorstSamples``; not ``detection``.
        image_key: key of the images in the batch: floating point, [N, C, H, W], or N images of several sizes.
        target_key: key of the targets in the batch.
        output_key: key of the outputs in the batch, and of what the runner's ``forward`` returns; logits.
        sample_id_key: key of the sample ids in the batch, which are unique; without it, samples are named by their
            position in the loader.
        class_names: one name per class; None: classes are shown by number.
        ignore_index: target value that does not count.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        criterion_key: name of the criterion, of several, that gives the loss of a sample; None: the only one, or all
            terms of a ``DictRunner``.
        score_name: the name of the score in tags and titles (SCORE above), see ``BestWorstSamples``.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the first batch, when a key is missing; at the end of a loader, when
            there is no layer of the name given, its output does not follow the image, or no gradient reaches it; at the
            start of the run, when the runner has no TensorBoard logger.
    """

    def __init__(
        self,
        score: Score = "loss",
        minimize: bool = True,
        k_samples: int = 12,
        *,
        model: str | None = None,
        layer: str | None = None,
        reshape: str | Callable[[Tensor], Tensor] | None = None,
        explain: str | int = "predicted",
        task: str | None = None,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        output_key: str = OUTPUT_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        criterion_key: str | None = None,
        score_name: str | None = None,
        prefix: str = "",
    ):
        super().__init__(
            score,
            minimize,
            k_samples,
            image_key=image_key,
            target_key=target_key,
            output_key=output_key,
            sample_id_key=sample_id_key,
            criterion_key=criterion_key,
            score_name=score_name,
            prefix=prefix,
        )
        # Set here, as the base passes no order on.
        self.order = EXPLANATIONS
        if task is not None and task not in _EXPLAINED:
            allowed = ", ".join(_EXPLAINED)
            raise UsageError(f"task must be one of {allowed}, got {task!r}: of detected boxes there is no Grad-CAM.")
        self.task = task
        self.model = model
        self.layer = layer
        self.reshape = _check_reshape(reshape, layer)
        self.explain = _check_explain(explain)
        self.style: PictureStyle = PictureStyle(check_names(class_names), mean, std, ignore_index)
        self.draw = partial(draw_samples, style=self.style, task=task)

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.inputs_ = [key for key in input_keys(runner) if key != self.keys["image"]]
        self.has_told_ = False
        self.found_: dict[Any, Layer | None] = {}  # the layer per image size and models
        self.notes_: list[str] = []  # per sample of the last loader, why its map is 0
        self.scales_: list[float] = []  # and what the 1 of its map stands for
        self.shown_ = ""  # the layer of these maps
        image, output, name = self.keys["image"], self.keys["output"], type(self).__name__
        # Made at the start, so that a model that is missing ends the run before its first step.
        self.call_ = ModelCall(runner, self.model, image_key=image, output_key=output, asked_by=name)
        # A runner's own ``forward`` has worked in the step; a model that is called directly must be tried.
        self.is_tried_ = self.call_.by_runner
        super().on_experiment_start(runner)
        # The ranking keeps large images in the size of a picture; the model must see them whole.
        self.source_.keeps_input_ = True

    def on_batch_start(self, runner: dl.IRunner) -> None:
        # Here the batch holds what the loader gave, and no output yet.
        self.inputs_ = [key for key in self.inputs_ if isinstance(runner.batch, Mapping) and key in runner.batch]

    def observe(self, runner: dl.IRunner) -> None:
        super().observe(runner)
        if not self.is_tried_ and not runner.is_infer_loader:
            self._try_call(runner)
            self.is_tried_ = True

    def _try_call(self, runner: dl.IRunner) -> None:
        # On one sample, so that a model that cannot be called fails at the first batch and not at the loader's end.
        image = pick(runner.batch, self.keys["image"], type(self).__name__)[0]
        with use_plain_modules(runner) as plain, undisturbed(list(plain.values())):
            self.call_(runner, {self.keys["image"]: for_one_pass(torch.as_tensor(image)[None])})

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return (f"7_grad_cam/worst/{self.score_name}",)

    def show(self, runner: dl.IRunner, writer: Writer, ranking: Ranking) -> None:
        if not self.draws:
            return
        # The pass belongs to the picture, though it runs in the loop: an epoch without pictures saves it.
        with self.timed(PICTURES):
            maps = self._maps(runner, ranking.worst)
        if maps is None:
            self._tell_of_no_layer(writer)
            return
        title = ranking_title(self, "worst", runner, ranking.worst, ranking.count)
        samples = [
            replace(sample, parts={**sample.parts, "heat": heat, "heat_note": note, "heat_scale": scale})
            for sample, heat, note, scale in zip(
                map(without_input, ranking.worst), maps, self.notes_, self.scales_, strict=True
            )
        ]
        pictures = [SamplePicture(str(one.sample_id), "grad_cam", partial(self._draw_alone, one)) for one in samples]
        self.offer_pictures(runner, pictures)
        title = [f"Grad-CAM ({self.explain}) of the {title[0]}", *title[1:], self.shown_]
        kind = target_kind(runner, self.keys["output"], self.keys["target"], self.criterion_key)
        draw = partial(draw_ranking, self.draw, self.score_name, samples, title, kind)
        writer.image(self.full_tag(f"7_grad_cam/worst/{self.score_name}"), draw, runner.epoch_step)

    def _draw_alone(self, sample: Sample) -> np.ndarray:
        return draw_heat({name: [part] for name, part in sample.parts.items()}, PICTURE_SIDE, self.style)

    def _tell_of_no_layer(self, writer: Writer) -> None:
        # No fault: a network of linear layers alone has no map of the image.
        if not self.has_told_:
            writer.inform(_NO_LAYER)
        self.has_told_ = True

    def _maps(self, runner: dl.IRunner, samples: Sequence[Sample]) -> list[np.ndarray] | None:
        """Return the map of each sample, [h, w]; None without a layer."""
        # Images of one size share a pass.
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, sample in enumerate(samples):
            groups.setdefault(_image(sample).shape, []).append(index)
        maps: dict[int, np.ndarray] = {}
        notes: dict[int, str] = {}
        scales: dict[int, float] = {}
        with use_plain_modules(runner) as plain, undisturbed(list(plain.values())):
            models = self.call_.chosen(plain)
            layer = self._layer(models, runner, samples[0])
            if layer is None:
                return None
            for shape, indices in groups.items():
                # One layer for all sizes of images, whose map follows the size.
                sized = replace(layer, image_shape=(shape[-2], shape[-1]))
                for some in _split_into_batches(indices, runner.loader_batch_size or len(indices)):
                    shown = [samples[index] for index in some]
                    scored = repeated_score(partial(self._forward, runner, shown), partial(self._score, runner, shown))
                    # Read at once: at the end of a loader a wait costs no step.
                    heat = heat_maps(scored, sized)
                    maps.update(zip(some, heat.maps.cpu().numpy(), strict=True))
                    notes.update(zip(some, [REASONS[reason] for reason in heat.reasons.tolist()], strict=True))
                    scales.update(zip(some, heat.scales.tolist(), strict=True))
            self.shown_ = _describe(layer, models, maps[0])
        self.notes_ = [notes[index] for index in range(len(samples))]
        self.scales_ = [scales[index] for index in range(len(samples))]
        return [maps[index] for index in range(len(samples))]

    def _layer(self, models: Mapping[str, nn.Module], runner: dl.IRunner, sample: Sample) -> Layer | None:
        """Return the layer that explains; it is found by passes with ``sample``, once per image size."""
        # By the models too: another run with this callback may bring others.
        key = _image(sample).shape, tuple(id(model) for model in models.values())
        if key not in self.found_:
            forward = partial(self._forward, runner, [sample])
            self.found_[key] = self._find(models, forward)
        return self.found_[key]

    def _find(self, models: Mapping[str, nn.Module], forward: Callable[[], Tensor]) -> Layer | None:
        kind = self.reshape if isinstance(self.reshape, str) else None
        if self.layer is None:
            return find_layer(list(models.values()), forward, kind)
        module = self._module_named(models)
        if callable(self.reshape):
            return Layer(module, Function(self.reshape))
        reading = read_module(list(models.values()), forward, module, kind)
        if reading is None:
            forms = FORMS[kind] if kind else _ANY_FORM
            raise UsageError(f"layer must be one whose output is {forms}: {type(module).__name__} gives none.")
        if not reading.follows:
            raise UsageError(
                f"layer must be one whose output follows the image: in that of {self.layer!r} {reading.share:.0%} of "
                f"the places do, {FOLLOWS:.0%} have to; name another layer, or give reshape as a function."
            )
        return reading.layer

    def _module_named(self, models: Mapping[str, nn.Module]) -> nn.Module:
        named = {
            f"{name}.{part}" if name else part: module
            for name, model in models.items()
            for part, module in model.named_modules()
        }
        layer = next((name for name in (self.layer, f"{self.model}.{self.layer}") if name in named), None)
        if layer is None:
            raise unknown_name("layer", self.layer, [name for name in named if name])
        found: nn.Module = named[layer]
        return found

    def _score(self, runner: dl.IRunner, samples: Sequence[Sample], output: Tensor) -> Tensor:
        targets = [sample.parts["target"] for sample in samples]
        kind = target_kind(runner, self.keys["output"], self.keys["target"], self.criterion_key)
        task = find_task(
            [sample.parts["output"] for sample in samples], targets, self.task, self.style.ignore_index, kind
        )
        if task == "regression":
            return explained_number(output, self.explain)
        if task is None and self.explain == "true":
            raise UsageError(
                f"explain='true' needs a target that is a class, or classes, got {np.shape(targets[0])} of "
                f"{np.asarray(targets[0]).dtype} for an output {tuple(output.shape[1:])}; name the task, such as "
                "'regression', or explain 'predicted'."
            )
        target = _stack(targets, output.device) if self.explain == "true" else None
        return explained_score(output, target, self.explain, self.style.ignore_index, multilabel=task == "multilabel")

    def _forward(self, runner: dl.IRunner, samples: Sequence[Sample]) -> Tensor:
        """Run the models on samples of one size, and return the logits, [N, ...]."""
        device = runner.engine.device
        image = for_one_pass(_stack([_image(sample) for sample in samples], device))
        others = {key: _stack([sample.parts["inputs"][key] for sample in samples], device) for key in self.inputs_}
        return self.call_(runner, {self.keys["image"]: image, **others})


def _image(sample: Sample) -> np.ndarray:
    """Return the image as the model was given it."""
    image: np.ndarray = sample.parts.get("input", sample.parts["image"])
    return image


def _split_into_batches(indices: list[int], size: int) -> list[list[int]]:
    # As large as the batches of the loader, for which there is memory.
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def _stack(parts: Sequence[Any], device: torch.device) -> Tensor:
    return torch.stack([torch.as_tensor(part) for part in parts]).to(device)


def _describe(layer: Layer, models: Mapping[str, nn.Module], heat: np.ndarray) -> str:
    """Return the line of a title that names the layer and the size of its map."""
    names = (
        ".".join(filter(None, (name, part)))
        for name, model in models.items()
        for part, module in model.named_modules()
        if module is layer.module
    )
    name = next(names, "") or "the model"
    places = f"{heat.shape[0]} x {heat.shape[1]} {_PLACES[layer.layout.kind]}"
    return f"layer {name} ({type(layer.module).__name__}), {places}"


def _check_reshape(reshape: Any, layer: str | None) -> Any:
    if isinstance(reshape, str) and reshape not in KINDS:
        raise unknown_name("reshape", reshape, KINDS, note=" (a function may be given instead)")
    if reshape is not None and not isinstance(reshape, str) and not callable(reshape):
        raise UsageError(f"reshape must be one of {', '.join(KINDS)}, a function or None, got {reshape!r}.")
    if callable(reshape) and layer is None:
        raise UsageError("reshape as a function needs layer, the name of the layer whose output it is for; got None.")
    return reshape


def _check_explain(explain: str | int) -> str | int:
    if isinstance(explain, str) and explain not in _EXPLAIN:
        raise unknown_name("explain", explain, _EXPLAIN, note=" (a class number may be given instead)")
    if not isinstance(explain, str | int) or isinstance(explain, bool) or (isinstance(explain, int) and explain < 0):
        raise UsageError(f"explain must be 'predicted', 'true' or a class number, got {explain!r}.")
    return explain
