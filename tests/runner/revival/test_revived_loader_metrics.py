"""Stock metrics of a whole loader: over processes, and where a sampler draws what it likes."""

import pytest
import torch
from catalyst import dl
from catalyst.callbacks.metrics.scikit_learn import SklearnLoaderCallback
from catalyst.callbacks.sklearn_model import SklearnModelCallback
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier
from stock_projects import make_data, make_model, train_stock
from torch.utils.data import DataLoader, Dataset

COUNT = 45


class Gallery(Dataset):
    """Pictures of people by several cameras, of which a third are queries."""

    def __init__(self):
        self.inputs, self.targets = make_data(COUNT)
        self.queries, self.cameras = torch.arange(COUNT) % 3 == 0, torch.arange(COUNT) % 7

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return {
            "features": self.inputs[index],
            "targets": self.targets[index],
            "query": self.queries[index],
            "camera": self.cameras[index],
            "value": self.inputs[index, 1],
        }


class Adds(dl.Callback):
    """Adds what the metrics ask for to the batch."""

    def __init__(self):
        super().__init__(order=1)

    def on_batch_end(self, runner):
        logits = runner.batch["logits"].detach()
        runner.batch.update(shares=logits.softmax(1), guess=logits[:, 0])


def measure(indices):
    """Return the metrics of a stock run that draws these samples, and those that scikit-learn's tree was fitted to."""
    fitted = []

    class Tree(DecisionTreeClassifier):
        def fit(self, features, targets):
            fitted.append(sorted(map(tuple, features.tolist())))
            return super().fit(features, targets)

        def __reduce__(self):  # a class of a function cannot be pickled
            return DecisionTreeClassifier, ()

    loaders = {key: DataLoader(Gallery(), 4, sampler=indices) for key in ("train", "valid")}
    callbacks = [
        Adds(),
        dl.CMCScoreCallback("logits", "targets", "query", topk=[1, 3]),
        dl.ReidCMCScoreCallback("logits", "targets", "camera", "query", topk=[1], prefix="reid_"),
        dl.R2SquaredCallback("guess", "value"),
        SklearnLoaderCallback({"y_score": "shares", "y_true": "targets"}, roc_auc_score, "area", multi_class="ovr"),
        SklearnModelCallback("features", "targets", "train", [], Tree),
    ]
    runner = train_stock(make_model(), loaders, callbacks=callbacks, lr=0.0)
    return dict(runner.epoch_metrics["valid"]), fitted


def share_found(logits, gallery, indices, topk, is_open):
    """Return the share of queries that find their person among the nearest pictures that are open to them."""
    found = []
    for query in (i for i in indices if gallery.queries[i]):
        others = [i for i in indices if not gallery.queries[i] and is_open(query, i)]
        nearest = sorted(others, key=lambda i: (logits[i] - logits[query]).square().sum().item())[:topk]
        found.append(any(gallery.targets[i] == gallery.targets[query] for i in nearest))
    return sum(found) / len(found)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("indices", [range(COUNT), range(2, 23), [*range(COUNT), *range(5, 14)]])
def test_whole_loaders_are_measured(revived, ranks, indices):
    gallery, indices = Gallery(), list(indices)
    with torch.no_grad():
        logits = make_model()(gallery.inputs)

    def other_shot(a, b):
        return gallery.targets[a] != gallery.targets[b] or gallery.cameras[a] != gallery.cameras[b]

    targets = gallery.targets[indices]
    expected = {
        "cmc01": share_found(logits, gallery, indices, 1, lambda a, b: True),
        "cmc03": share_found(logits, gallery, indices, 3, lambda a, b: True),
        "reid_cmc01": share_found(logits, gallery, indices, 1, other_shot),
        "r2squared": r2_score(gallery.inputs[indices, 1], logits[indices, 0]),
        "area": roc_auc_score(targets, logits[indices].softmax(1), multi_class="ovr"),
    }
    for metrics, fitted in revived(ranks, measure, indices):
        assert {key: metrics[key] for key in expected} == pytest.approx(expected, abs=1e-6)
        assert fitted == [sorted(tuple(gallery.inputs[i].tolist()) for i in indices)]
