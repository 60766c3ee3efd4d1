import numpy as np
import pytest
from kit import observe
from sklearn import metrics as sk

from assay.callbacks.classes.classification_report import ClassificationReport
from assay.callbacks.support.tables import markdown_table, text_table

SCORES = ("precision", "recall", "f1-score")


def run(folder, callback, data, **options):
    return observe(folder, [callback], data, **options)


def classification(count=40, classes=3):
    output = np.random.randn(count, classes).astype(np.float32)
    return output, np.random.randint(0, classes, count)


def table_of(events, index=0, tag="1_overview/report"):
    text = events.Tensors(f"{tag}/text_summary")[index].tensor_proto.string_val[0].decode()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0] == ["", *SCORES, "support"]
    return {line[0]: line[1:] for line in lines[2:]}


def cells(row):
    return [*(f"{row[score]:.4f}" for score in SCORES), str(int(row["support"]))]


@pytest.mark.parametrize("stock", [True, False])
def test_the_table_of_every_epoch_and_loader_equals_scikit_learn(stock, tmp_path, read_events):
    keys = {"output_key": "scores", "target_key": "targets"} if stock else {}
    data = {"train": classification(), "valid": classification(16)}
    callback = ClassificationReport(class_names=["cat", "dog", "owl"], sink=lambda text: None, **keys)
    folder, _ = run(tmp_path, callback, data, stock=stock, epochs=2)
    for key, (output, target) in data.items():
        events = read_events(folder / key)
        tag = "3_report" if key == "train" else "1_overview/report"
        assert [event.step for event in events.Tensors(f"{tag}/text_summary")] == [1, 2]
        expected = sk.classification_report(
            target, output.argmax(1), target_names=["cat", "dog", "owl"], output_dict=True, zero_division=0
        )
        accuracy = ["", "", f"{expected.pop('accuracy'):.4f}", str(len(target))]
        assert table_of(events, 1, tag) == {
            **{name: cells(row) for name, row in expected.items()},
            "accuracy": accuracy,
        }


def test_the_table_of_labels_equals_scikit_learn(tmp_path, read_events):
    output, target = np.random.randn(25, 3).astype(np.float32), np.random.randint(0, 2, (25, 3)).astype(np.float32)
    callback = ClassificationReport(task="multilabel", num_classes=3, sink=lambda text: None)
    folder, _ = run(tmp_path, callback, {"valid": (output, target)})
    expected = sk.classification_report(target, output > 0, output_dict=True, zero_division=0)
    del expected["samples avg"]  # does not follow from counts
    assert table_of(read_events(folder / "valid")) == {name: cells(row) for name, row in expected.items()}


@pytest.mark.parametrize("stock", [True, False])
def test_the_rates_reach_the_metrics_that_a_checkpoint_is_chosen_by(stock, tmp_path):
    keys = {"output_key": "scores", "target_key": "targets"} if stock else {}
    data = {"train": classification(), "valid": classification(16)}
    _, epochs = run(tmp_path, ClassificationReport(num_classes=3, sink=str, **keys), data, stock=stock, epochs=2)
    assert len(epochs) == 2
    for epoch in epochs:
        for key, (output, target) in data.items():
            false_positive, false_negative = [], []
            for (tn, fp), (fn, tp) in sk.multilabel_confusion_matrix(target, output.argmax(1), labels=range(3)):
                false_positive.append(fp / (fp + tn))
                false_negative.append(fn / (fn + tp))
            assert epoch[key]["false_positive_rate"] == pytest.approx(np.mean(false_positive), abs=1e-9)
            assert epoch[key]["false_negative_rate"] == pytest.approx(np.mean(false_negative), abs=1e-9)


def test_the_rates_of_a_binary_task_are_those_of_class_one(tmp_path):
    output, target = np.random.randn(30, 1).astype(np.float32), np.random.randint(0, 2, 30).astype(np.float32)
    _, [epoch] = run(tmp_path, ClassificationReport(task="binary", sink=str), {"valid": (output, target)})
    (tn, fp), (fn, tp) = sk.confusion_matrix(target, output.reshape(-1) > 0)
    found = epoch["valid"]["false_positive_rate"], epoch["valid"]["false_negative_rate"]
    assert found == pytest.approx((fp / (fp + tn), fn / (fn + tp)), abs=1e-9)


def test_the_last_report_of_each_loader_is_given_out_at_the_end_of_the_run(tmp_path):
    texts = []
    data = {"train": classification(), "valid": classification(16)}
    run(tmp_path, ClassificationReport(class_names=["cat", "dog", "owl"], sink=texts.append), data, epochs=2)
    assert [text.splitlines()[0] for text in texts] == ["train report, epoch 2", "valid report, epoch 2"]
    for text, (output, target) in zip(texts, data.values(), strict=True):
        expected = sk.classification_report(
            target, output.argmax(1), target_names=["cat", "dog", "owl"], digits=4, zero_division=0
        )
        assert sorted(text.split()[4:]) == sorted(expected.split())


def test_the_classes_are_sorted_from_the_worst_to_the_best_and_those_without_a_sample_come_last(tmp_path):
    texts = []
    target = np.repeat(np.arange(4), 10)
    decided = target.copy()
    decided[10:16], decided[20:22], decided[:10] = 2, 3, 4  # class 0 has no hit, class 1 has 4 of 10, class 4 no sample
    output = np.eye(5, dtype=np.float32)[decided]
    run(tmp_path, ClassificationReport(num_classes=5, sink=texts.append), {"valid": (output, target)})
    assert [line.split()[0] for line in texts[0].splitlines()[2:7]] == ["0", "1", "2", "3", "4"]
    decided[30:] = 0
    output = np.eye(5, dtype=np.float32)[decided]
    run(tmp_path / "again", ClassificationReport(num_classes=5, sink=texts.append), {"valid": (output, target)})
    assert [line.split()[0] for line in texts[1].splitlines()[2:7]] == ["0", "3", "1", "2", "4"]


@pytest.mark.parametrize("classes", [19, 20, 200])
def test_of_many_classes_the_text_shows_the_worst_and_the_table_all(classes, tmp_path, read_events):
    texts = []
    target = np.repeat(np.arange(classes), 10)
    # Of class c so many of 10 are right as the last digit of c is.
    decided = np.where(np.arange(10 * classes) % 10 < target % 10, target, (target + 1) % classes)
    callback = ClassificationReport(num_classes=classes, sink=texts.append)
    folder, _ = run(tmp_path, callback, {"valid": (np.eye(classes, dtype=np.float32)[decided], target)})
    lines = texts[0].splitlines()
    assert len(table_of(read_events(folder / "valid"))) == classes + 3
    assert len(lines) == 2 + (classes if classes < 20 else 10) + 3
    assert (f"the 10 worst of {classes} classes; all are in TensorBoard" in lines[0]) == (classes >= 20)
    f1 = [float(line.split()[3]) for line in lines[2:-3]]
    assert f1 == sorted(f1)
    assert f1[0] == min(sk.f1_score(target, decided, average=None)).round(4)


def test_the_report_is_printed_without_a_sink(tmp_path, capsys):
    run(tmp_path, ClassificationReport(num_classes=3), {"valid": classification()})
    assert "valid report, epoch 1" in capsys.readouterr().out


def test_only_the_main_process_gives_out_reports():
    texts = []
    callback = ClassificationReport(num_classes=3, sink=texts.append)
    callback.last_ = {"valid": "the report"}
    for is_main in (False, True):
        engine = type("Engine", (), {"is_main_process": is_main})
        callback.on_experiment_end(type("Runner", (), {"engine": engine}))
        assert texts == ["the report"] * is_main


def test_names_do_not_break_a_table():
    lines = markdown_table(["", "a"], [["x|y <b> *z*\n_", "1"]]).splitlines()
    assert lines == ["|  | a |", "| --- | ---: |", r"| x\|y &lt;b> \*z\* \_ | 1 |"]
    assert text_table(["", "score"], [["two\nlines", "1"]]).splitlines() == ["           score", "two lines      1"]
