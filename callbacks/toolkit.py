"""What a diagnostic of your own is made of: base classes, the writer, pictures, tables, and measures to build on.

They stand apart from ``assay.callbacks``, which holds what a run is given. For example, a metric of a binary task that
is exact over all samples and ranks, and shares its counts with a ``PRCurves`` beside it::

    from assay.callbacks.toolkit import ScoreCounts, Writer, best_f1

    class BestIoU(ScoreCounts):
        def write(self, runner, writer: Writer, counts):
            f1, _, _ = best_f1(counts)
            runner.loader_metrics["best_iou"] = float(f1 / (2 - f1))
"""

from .base.diagnostic import Diagnostic as Diagnostic
from .classes.class_counts import ClassCounts as ClassCounts
from .classes.confusion_by_group import ConfusionByGroup as ConfusionByGroup
from .classes.score_counts import ScoreCounts as ScoreCounts
from .drawings.canvas.grid import Card as Card
from .drawings.canvas.grid import draw_grid as draw_grid
from .drawings.canvas.theme import GREEN as GREEN
from .drawings.canvas.theme import RED as RED
from .drawings.canvas.theme import RIGHT as RIGHT
from .drawings.canvas.theme import WRONG as WRONG
from .drawings.samples import format_score as format_score
from .measures.best_worst_samples import Sample as Sample
from .measures.region_counts import RegionCounts as RegionCounts
from .measures.region_counts import iou as iou
from .measures.region_counts import spread as spread
from .measures.score_curves import best_f1 as best_f1
from .measures.weighted_auc import WeightedAUC as WeightedAUC
from .metrics.box_metrics import BoxPrecision as BoxPrecision
from .samples.best_worst_samples import ranking_title as ranking_title
from .samples.sample_ranking import Ranking as Ranking
from .samples.sample_ranking import SampleRanking as SampleRanking
from .support.distributed import reduce_state as reduce_state
from .support.tables import markdown_table as markdown_table
from .tensorboard.writer import Writer as Writer
