"""What rules find is kept by moment, and a symptom is not told beside its cause."""

import pytest
from made_probes import healthy, make_samples, with_samples

from assay.callbacks.errors import UsageError
from assay.callbacks.findings.examination import Examination
from assay.callbacks.findings.page import line, page, summary
from assay.callbacks.findings.probe.finding import Finding, Where
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine, rule
from assay.callbacks.findings.rules import all_rules


def make_rule(name, findings, **options):
    def find(probe):
        yield from findings

    return rule(name, **{"at": "data", **options})(find)


def leaking():
    return with_samples(healthy(), "valid", lambda _: make_samples(100))


def test_the_worst_comes_first_and_a_finding_knows_its_rule_and_epoch():
    rules = [
        make_rule("small", [Finding("note", "a", "b"), Finding("warning", "c", "d")]),
        make_rule("large", [Finding("error", "e", "f")]),
    ]
    found = examine(rules, healthy(), epoch=3).findings
    assert [(it.rule, it.severity, it.epoch) for it in found] == [
        ("large", "error", 3), ("small", "warning", 3), ("small", "note", 3),
    ]  # fmt: skip
    assert found[0].sentence == "e: f."


def test_a_symptom_is_left_out_beside_its_cause_and_told_without_it():
    symptom = make_rule("symptom", [Finding("warning", "s", "t")], explained_by=["cause"])
    cause = make_rule("cause", [Finding("warning", "c", "d")])
    assert [it.rule for it in examine([symptom, cause], healthy()).findings] == ["cause"]
    assert [it.rule for it in examine([symptom], healthy()).findings] == ["symptom"]
    (known,) = examine([cause], healthy()).findings
    assert examine([symptom], healthy(), known=[known]).findings == ()


def test_a_rule_that_speaks_only_beside_others_needs_a_warning_of_another_rule():
    shy = make_rule("shy", [Finding("note", "s", "t")], only_beside_others=True)
    cause = make_rule("cause", [Finding("warning", "c", "d")])
    hint = make_rule("hint", [Finding("note", "h", "i")])
    assert [it.rule for it in examine([shy, cause], healthy()).findings] == ["cause", "shy"]
    assert [it.rule for it in examine([shy, hint], healthy()).findings] == ["hint"]
    (known,) = examine([cause], healthy()).findings
    assert [it.rule for it in examine([shy], healthy(), known=[known]).findings] == ["shy"]
    assert examine([shy], healthy()).findings == ()


def test_a_note_explains_no_symptom():
    symptom = make_rule("symptom", [Finding("warning", "s", "t")], explained_by=["hint"])
    hint = make_rule("hint", [Finding("note", "c", "d")])
    assert {it.rule for it in examine([symptom, hint], healthy()).findings} == {"symptom", "hint"}


def test_a_rule_that_lacks_what_it_needs_is_left_out_and_says_why():
    examined = examine([make_rule("deep", [Finding("error", "e", "f")], needs=["model", "steps"])], Probe())
    assert examined.findings == ()
    assert examined.left_out == {"deep": "no model and no steps to look at"}


def test_a_rule_that_fails_is_left_out_and_the_others_look():
    def broken(probe):
        yield Finding("error", "e", "f")
        raise KeyError("nothing")

    rules = [rule("broken", at="data")(broken), make_rule("fine", [Finding("note", "a", "b")])]
    examined = examine(rules, healthy())
    assert [it.rule for it in examined.findings] == ["fine"]
    assert examined.left_out == {"broken": "failed with KeyError: 'nothing'"}


def test_a_finding_is_fresh_once_and_holds_until_its_rule_is_silent():
    examination = Examination()
    assert [it.rule for it in examination.look("data", leaking())] == ["shared-images"]
    assert examination.look("data", leaking()) == ()
    assert [it.rule for it in examination.findings] == ["shared-images"]
    examination.look("data", healthy())
    assert examination.findings == ()


def test_a_silenced_rule_does_not_look_and_an_unknown_one_is_refused_with_the_nearest():
    assert Examination(["shared-images"]).look("data", leaking()) == ()
    with pytest.raises(UsageError, match="unknown rule 'shared-image'; did you mean 'shared-images'"):
        Examination(["shared-image"])


def test_a_finding_comes_back_from_its_dict():
    where = Where(loader="train", samples=("a", "b"))
    finding = Finding("warning", "what", "do", where, {"measured": 1.5}, "some-rule", 2)
    assert finding.as_dict()["where"] == {"loader": "train", "samples": ("a", "b")}
    assert Finding.from_dict(finding.as_dict()) == finding


def test_lines_and_page_show_text_from_data_as_it_is():
    finding = Finding("error", "class '<b>|x' is *odd*", "rename it", rule="odd")
    assert line(finding) == "error (odd): class '<b>|x' is *odd*: rename it."
    text = page([finding], ["quiet"], {"deep": "no model to look at", "flat": "no model to look at"})
    assert text.splitlines() == [
        "**1 error**", "",
        "**error** (odd): class '&lt;b>\\|x' is \\*odd\\*: rename it.", "",
        "Silenced: quiet.", "",
        "Left out (no model to look at): deep, flat.",
    ]  # fmt: skip
    assert summary([finding, finding]) == "2 errors"


def test_rules_have_names_of_their_own_and_symptoms_name_rules_that_there_are():
    names = [it.name for it in all_rules()]
    assert len(names) == len(set(names))
    unknown = {(it.name, cause) for it in all_rules() for cause in it.explained_by if cause not in names}
    assert not unknown
