"""Projects of ten kinds run with one ``revive()``, and every callback shows them: tags, and numbers by other means."""

import numpy as np
import pytest
import torch
from foreign_projects import (
    autoencoder,
    classification,
    distillation,
    gan,
    linear,
    metric_learning,
    multihead,
    multilabel,
    segmentation,
    vae,
)
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

GRADIENTS = {"9_gradients/flow", "9_gradients/map"}
SCORES = {"2_confusion_matrix", "2_confusion_matrix/most_confused/text_summary", "5_predictions/distribution"}


@pytest.fixture
def trained(revived, tmp_path):
    def train(project):
        ((numbers, kept, tags),) = revived(1, project, tmp_path)
        return numbers, kept, tags

    return train


def test_linear(trained):
    numbers, kept, tags = trained(linear)
    for loader in ("train", "valid"):
        output, target = kept[loader]["y_hat"], kept[loader]["y"]
        assert numbers[loader]["mae"] == pytest.approx(mean_absolute_error(target, output), rel=1e-5)
        assert numbers[loader]["mse"] == pytest.approx(mean_squared_error(target, output), rel=1e-5)
        assert numbers[loader]["r2"] == pytest.approx(r2_score(target, output), rel=1e-4)
    assert numbers["valid"]["mse_loss"] == pytest.approx(numbers["valid"]["mse"], rel=1e-5)
    assert tags["train"] >= GRADIENTS | {"9_optimizer/lr/0", "9_optimizer/grad_norm", "9_time/forward", "mae/epoch"}
    assert "10_best/valid/mse_loss" in tags["train"]


def test_classification(trained):
    numbers, kept, tags = trained(classification)
    logits, target = torch.from_numpy(kept["valid"]["scores_"]), kept["valid"]["cls"]
    predicted, chances = logits.argmax(1).numpy(), logits.double().softmax(1).numpy()
    assert numbers["valid"]["accuracy01"] == pytest.approx(accuracy_score(target, predicted))
    found = numbers["valid"]
    precision = average_precision_score(np.eye(3)[target], chances, average="macro")
    assert found["average_precision"] == pytest.approx(precision, abs=found["average_precision_bound"] + 1e-6)
    area = roc_auc_score(target, chances, multi_class="ovr")
    assert found["roc_auc"] == pytest.approx(area, abs=found["roc_auc_bound"] + 1e-6)
    pictures = {
        "9_batches/best/ce",
        "9_batches/worst/ce",
        "6_samples/best/loss",
        "1_overview/worst/loss",
        "7_grad_cam/worst/loss",
    }
    assert tags["valid"] >= pictures | SCORES | {"5_predictions/roc", "1_overview/report/text_summary"}
    assert "8_data/augmentations" in tags["train"]


def test_multilabel(trained):
    numbers, kept, tags = trained(multilabel)
    logits, target = kept["valid"]["logits"], kept["valid"]["labels"]
    found, chances = numbers["valid"], torch.from_numpy(logits).double().sigmoid().numpy()
    assert found["f1"] == pytest.approx(f1_score(target, logits > 0, average="macro"), rel=1e-5)
    area = roc_auc_score(target, chances, average="macro")
    assert found["roc_auc"] == pytest.approx(area, abs=found["roc_auc_bound"] + 1e-6)
    assert found["auc/_macro"] == pytest.approx(area, rel=1e-5)
    assert tags["valid"] >= {
        "2_confusion_matrix",
        "5_predictions/distribution",
        "5_predictions/roc",
        "1_overview/report/text_summary",
    }


def test_multihead(trained):
    numbers, kept, tags = trained(multihead)
    for head in ("colour", "shape"):
        right = kept["valid"][f"{head}_logits"].argmax(1) == kept["valid"][head]
        assert numbers["valid"][f"{head}/accuracy"] == pytest.approx(right.mean())
        assert f"2_confusion_matrix/{head}" in tags["valid"]
    assert numbers["valid"]["stock_accuracy01"] == pytest.approx(numbers["valid"]["colour/accuracy"])
    assert tags["train"] >= GRADIENTS


def test_autoencoder(trained):
    numbers, kept, tags = trained(autoencoder)
    photo, again = kept["valid"]["photo"], kept["valid"]["again"]
    assert numbers["valid"]["mae"] == pytest.approx(np.abs(again - photo).mean(), rel=1e-5)
    assert numbers["valid"]["mse"] == pytest.approx(np.square(again - photo).mean(), rel=1e-5)
    name = "reconstruction_error"
    pictures = {
        "9_batches/best/loss",
        "9_batches/worst/loss",
        f"6_samples/best/{name}",
    }
    assert tags["valid"] >= pictures | {f"1_overview/worst/{name}"}
    assert tags["train"] >= pictures | GRADIENTS | {f"6_worst_samples/{name}"}


def test_vae(trained):
    numbers, kept, tags = trained(vae)
    error = np.square(kept["valid"]["recon"] - kept["valid"]["image"]).mean()
    assert numbers["valid"]["loss_ae"] == pytest.approx(error, rel=1e-5)
    pictures = {
        "9_batches/best/loss_ae",
        "9_batches/worst/loss_ae",
        "6_samples/best/error",
    }
    assert tags["valid"] >= pictures | {"1_overview/worst/error"}
    assert tags["train"] >= pictures | GRADIENTS | {"6_worst_samples/error"}


def test_gan(trained):
    numbers, kept, tags = trained(gan)
    logits, labels = kept["train"]["combined_logits"], kept["train"]["labels"]
    assert len(labels) == 60
    assert numbers["train"]["accuracy"] == pytest.approx(accuracy_score(labels, logits > 0))
    assert numbers["train"]["f1"] == pytest.approx(f1_score(labels, logits > 0), rel=1e-5)
    pictures = {"9_batches/best/loss_discriminator", "9_batches/worst/loss_discriminator"}
    assert tags["train"] >= pictures | GRADIENTS | {"2_confusion_matrix", "5_predictions/distribution"}


def test_metric_learning(trained):
    numbers, kept, tags = trained(metric_learning)
    vectors, classes = kept["valid"]["embeddings"].astype(np.float64), kept["valid"]["targets"]
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    order = np.argsort(-likeness, axis=1)
    for k in (1, 5):
        hits = (classes[order[:, :k]] == classes[:, None]).any(axis=1)
        assert numbers["valid"][f"recall@{k}"] == pytest.approx(hits.mean())
    assert tags["valid"] >= {"9_batches/best/loss", "9_batches/worst/loss"}
    assert tags["train"] >= GRADIENTS


def test_distillation(trained):
    numbers, kept, tags = trained(distillation)
    right = kept["valid"]["s_logits"].argmax(1) == kept["valid"]["classes"]
    assert numbers["valid"]["accuracy"] == pytest.approx(right.mean())
    losses = torch.nn.functional.cross_entropy(
        torch.from_numpy(kept["valid"]["s_logits"]), torch.from_numpy(kept["valid"]["classes"])
    )
    assert numbers["valid"]["cls_loss"] == pytest.approx(losses.item(), rel=1e-5)
    assert any(tag.startswith("7_grad_cam/worst/") for tag in tags["valid"])
    assert any(tag.startswith("1_overview/worst/") for tag in tags["valid"])
    assert tags["train"] >= GRADIENTS


def test_segmentation(trained):
    numbers, kept, tags = trained(segmentation)
    logits, area = kept["valid"]["area_logits"].ravel(), kept["valid"]["area"].ravel()
    assert numbers["valid"]["accuracy"] == pytest.approx(accuracy_score(area, logits > 0))
    assert numbers["valid"]["iou"] == pytest.approx(jaccard_score(area, logits > 0), rel=1e-5)
    pictures = {
        "9_batches/best/bce",
        "9_batches/worst/bce",
        "1_overview/worst/loss",
        "7_grad_cam/worst/loss",
        "5_predictions/roc",
    }
    assert tags["valid"] >= pictures | {"2_confusion_matrix", "5_predictions/distribution"}
    assert "8_data/augmentations" in tags["train"]
