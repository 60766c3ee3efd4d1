"""A metric by which the worst epoch is taken for the best.

Source: Catalyst's ``minimize_valid_metric``, whose default is true; ``mode="min"`` beside an accuracy.
Cost: none.
Risk: names that mean something else: whole words count, and where both kinds occur none does.
"""

import re
from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_SMALLER = frozenset({
    "loss", "losses", "error", "err", "mae", "mse", "rmse", "rmsle", "mape", "perplexity", "ppl", "fid", "hausdorff",
    "brier", "ece", "nll", "bce", "wer", "cer", "eer", "distance",
})  # fmt: skip
_LARGER = frozenset({
    "accuracy", "acc", "auc", "auroc", "roc", "f1", "fbeta", "f2", "iou", "miou", "jaccard", "dice", "map", "map50",
    "ap",
    "precision", "recall", "sensitivity", "specificity", "r2", "kappa", "mcc", "psnr", "ssim", "spearman", "pearson",
    "ndcg", "mrr", "bleu", "rouge", "accuracy01", "accuracy03", "accuracy05", "top1", "top5", "correlation",
})  # fmt: skip


@rule("monitor-direction", at="model", needs=["settings"])
def monitor_direction(probe: Probe) -> Iterator[Finding]:
    """Find monitors that minimize a score, or maximize an error."""
    for monitor in probe.settings.monitors:
        words = set(re.split(r"[^a-z0-9]+", monitor.metric.lower()))
        larger, smaller = bool(words & _LARGER), bool(words & _SMALLER)
        if larger != smaller and larger == monitor.minimize:
            goes, best = ("minimized", "smallest") if monitor.minimize else ("maximized", "largest")
            yield Finding(
                "warning",
                f"the monitor {monitor.metric!r} of {monitor.loader} is {goes}: the epoch with the {best} value, the "
                "worst one, is kept as the best",
                f"{'maximize' if monitor.minimize else 'minimize'} it",
                Where(loader=monitor.loader, field="monitor"),
                {"metric": monitor.metric, "minimize": monitor.minimize},
            )
