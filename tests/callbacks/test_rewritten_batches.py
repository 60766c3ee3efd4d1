"""Runners whose ``handle_batch`` puts other samples into the batch than the loader gave, as a GAN's does."""

import torch
from catalyst import dl
from kit import Keep, fit
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from assay.callbacks import BestWorstBatches, BestWorstSamples, Embeddings, PredictionTable

SIZE, BATCH = 10, 4  # the last batch holds 2
KEYS = {"output_key": "logits", "target_key": "is_made"}


class Gan(dl.Runner):
    """Puts true and made images into one batch, as Catalyst's own example does."""

    def handle_batch(self, batch):
        true, _ = batch
        images = torch.cat([torch.zeros_like(true), true])
        is_made = torch.cat([torch.ones(len(true), 1), torch.zeros(len(true), 1)])
        logits = self.model(images)
        losses = nn.functional.binary_cross_entropy_with_logits(logits, is_made, reduction="none")[:, 0]
        self.batch = {"image": images, "is_made": is_made, "logits": logits, "loss": losses, "true": true}
        self.batch_metrics["loss"] = losses.mean()


def test_made_samples_have_positions_of_their_own(tmp_path):
    images = torch.rand(SIZE, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.zeros(SIZE)), batch_size=BATCH)
    looks = Keep(lambda runner: runner.batch["loss"].tolist(), order=0)
    samples, drawn = BestWorstSamples("loss", k_samples=2 * SIZE, **KEYS), []
    batches = BestWorstBatches(
        "loss", visualize_batch=lambda batch: drawn.append(batch) or torch.zeros(3, 8, 8), **KEYS
    )
    table = PredictionTable(tmp_path / "csv", output_key="logits", target_key="is_made", task="binary")
    ranking = {}
    samples.show = lambda runner, writer, found: ranking.update(found=found)
    fit(
        Gan(), nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), {"valid": loader},
        [looks, samples, batches, table, Embeddings(**KEYS)], optimizer=None, criterion=None, logdir=str(tmp_path),
    )  # fmt: skip
    best = ranking["found"].best
    assert [sample.position for sample in sorted(best, key=lambda sample: sample.position)] == list(range(2 * SIZE))
    assert [sample.score for sample in sorted(best, key=lambda sample: sample.position)] == [
        loss for losses in looks.kept for loss in losses
    ]
    assert {len(batch["image"]) for batch in drawn} <= {2 * BATCH, 4}
    assert all("true" not in batch for batch in drawn)  # of which there are half as many
    rows = (tmp_path / "csv" / "valid.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * SIZE
    metadata = next(tmp_path.rglob("metadata.tsv")).read_text().splitlines()
    assert sorted(int(row.split("\t")[0]) for row in metadata[1:]) == list(range(2 * SIZE))
