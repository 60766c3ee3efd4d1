"""How far a model's confidence can be trusted: reliability diagram and expected calibration error."""

from typing import Any

import torch
from catalyst import dl
from torch import Tensor

from ..drawings.calibration import draw_calibration
from ..errors import at_least_one
from ..measures.calibration import ReliabilityBins, reliability
from ..measures.targets import decide_targets
from ..tensorboard.writer import Writer
from .class_counts import ClassCounts


class Calibration(ClassCounts):
    """Shows per loader and epoch how often predictions of each confidence are right.

    The confidence of ``multiclass`` is the largest softmax, right where its class is the target; of ``binary`` and
    ``multilabel`` the probability of yes, right where the target is yes. The metric ``ece``, 0 to 1, is the expected
    calibration error (Guo et al., "On Calibration of Modern Neural Networks", 2017), NaN without predictions; the
    tag ``5_predictions/calibration``, image, step = epoch, [H, W, 3] uint8 RGB, shows the bins. A pixel or label is a
    prediction.

    Args:
        bins: number of bins of confidence, of equal width, at least 1.
        options: those of ``ClassCounts``, which names its errors too.
    """

    works_unwritten = True  # it computes a metric
    own_tags = ("5_predictions/calibration",)
    own_metrics = ("ece",)
    minor_metrics = own_metrics

    def __init__(self, *, bins: int = 15, **options: Any):
        super().__init__(**options)
        self.bins = at_least_one("bins", bins)

    def make_measure(self, device: torch.device) -> ReliabilityBins:
        classes = self.num_classes if self.task == "multiclass" else 2
        return ReliabilityBins(self.bins, classes, self.ignore_index, device)

    def count(self, output: Tensor, target: Tensor, *others: Tensor) -> None:
        target = decide_targets(target, output.shape, self.task, self.ignore_index)
        if self.task == "multiclass":
            confidence, predicted = output.float().softmax(dim=1).max(dim=1)
            self.measure_.update(confidence, predicted == target, target)
        else:
            self.measure_.update(output.float().sigmoid(), target == 1, target)

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        shares, right, sure = reliability(counts).numpy()
        ece = float((abs(right - sure) * shares)[shares > 0].sum()) if counts.any() else float("nan")
        self.write_metrics(runner, runner.loader_metrics, {"ece": ece})
        head = f"{self.place(runner.loader_key)} calibration, epoch {runner.epoch_step}"
        title = [head, f"ECE {ece:.4f} of {int(counts[0].sum()):,} {self.unit_of_predictions}"]
        writer.image(
            self.full_tag("5_predictions/calibration"),
            lambda: draw_calibration(shares, right, sure, title),
            runner.epoch_step,
        )
