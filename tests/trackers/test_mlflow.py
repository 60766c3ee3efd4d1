"""MLflow with SQLite: what its own client reads of the run."""

import pytest
from catalyst import dl
from stock_runs import train_stock

from assay.callbacks import ClassificationReport, ConfusionMatrix, OptimizerMonitor, PredictionDistribution

mlflow = pytest.importorskip("mlflow", reason="the extra trackers is not installed")

KEYS = {"output_key": "logits", "target_key": "targets"}
NAMES = ["a+", "a-", "ü (new)"]


@pytest.fixture
def run_and_client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{tmp_path}/runs.db"
    mlflow.set_tracking_uri(address)
    mlflow.create_experiment("tests", artifact_location=str(tmp_path / "artifacts"))
    callbacks = [
        ConfusionMatrix(**KEYS, class_names=NAMES),
        ClassificationReport(**KEYS, class_names=NAMES),
        PredictionDistribution(**KEYS, class_names=NAMES),
        OptimizerMonitor(),
    ]
    runner = train_stock(callbacks, {"mlflow": dl.MLflowLogger("tests", run="one", tracking_uri=address)}, epochs=2)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])  # one run, of one thread
    return runner, run, client


def test_each_epoch_has_its_pictures_texts_and_scalars(run_and_client):
    runner, run, client = run_and_client
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss/valid/epoch")]
    assert [step for step, _ in history] == [1, 2]
    assert history[-1][1] == pytest.approx(runner.epoch_metrics["valid"]["loss"])
    rates = client.get_metric_history(run.info.run_id, "optimizer/lr/0/train/epoch")
    assert [(metric.step, metric.value) for metric in rates] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))]
    for loader in ("train", "valid"):
        for tag in ("confusion_matrix", "predictions~distribution"):
            names = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
            found = [name for name in names if f"/{loader}~{tag}" in name and name.endswith(".png")]
            assert len(found) == 2
            for name in found:
                assert mlflow.artifacts.load_image(f"runs:/{run.info.run_id}/{name}").size > (100, 100)
        for epoch in (1, 2):
            text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{loader}/report/epoch-{epoch:04d}.md")
            assert all(name in text for name in ("a+", "a-"))
