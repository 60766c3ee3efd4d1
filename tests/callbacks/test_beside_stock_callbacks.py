"""Every exported callback in every kind of runner, beside Catalyst's callbacks and loggers: nothing changes a number.

Each row runs all of ours in one kind of runner, beside all of Catalyst's that change no weight and two of its loggers,
so that every pair meets. ``python -m proofs.callback_sweep`` runs each combination alone.
"""

import pytest

from proofs.sweep_kinds import KINDS, OURS, REFUSED, STOCK, outcome, train

pytestmark = [
    pytest.mark.filterwarnings("ignore:No ``I"),  # Catalyst, of every runner with a step of its own
    pytest.mark.filterwarnings("ignore:invalid value encountered"),  # its AUC
]


LONG = pytest.mark.long("trains with and without all diagnostics; two kinds of runs are tried each time")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ("supervised", "DictRunner") else LONG) for kind in KINDS]
)
def test_no_number_changes(kind):
    plain = train(kind, {}, {})
    names = [name for name in OURS if (kind, name) not in REFUSED]
    assert outcome(kind, names, list(STOCK), "both", plain) == "same"


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_what_cannot_work_is_refused_in_one_line(kind, name):
    said = outcome(kind, [name], [], "TensorboardLogger", {})
    assert REFUSED[kind, name] in said
    assert "\n" not in said


def test_another_number_is_told():
    plain = train("dict", {}, {})
    other = {**plain, "losses": [loss + 1e-9 for loss in plain["losses"]]}
    assert outcome("dict", [], [], "TensorboardLogger", other) == "other numbers"
