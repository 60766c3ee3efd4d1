"""Every figure of the README is that of a committed result, and says so where it was measured on a CPU."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = " ".join((ROOT / "README.md").read_text().split())
RESULTS = ROOT / "benchmarks" / "results"


def rows_of(name):
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def longer(row):
    """Return how much longer than the bare loop a row of ``overhead`` takes, in words."""
    return f"{rows_of('overhead-cpu')[row]['ratio']['median'] - 1:.1%}"


def test_the_cost_beside_other_libraries():
    assert f"`full` takes {longer('assay, full')} longer" in README
    assert f"at every step `full` takes {longer('assay, full, gradients every step')} longer" in README
    others = ["Ignite with diagnostics", "Catalyst with its metrics", "Lightning with diagnostics"]
    ignite, catalyst, lightning = map(longer, others)
    assert f"takes {ignite} longer in Ignite, {catalyst} in Catalyst and {lightning} in Lightning" in README
    rows = rows_of("overhead-cpu")
    bare = rows["bare loop"]["seconds"]
    spread = max(bare["high"] / bare["median"], bare["median"] / bare["low"]) - 1
    assert f"two runs of one loop differ by {spread:.0%}" in README
    for level in ("light", "off"):  # as long as the loop: within that
        assert abs(rows[f"assay, {level}"]["ratio"]["median"] - 1) < spread
    assert f"stops the loop for {rows['assay, full']['loader_end_ms']['median']:.0f} ms" in README


# Of each row of the table in the README, that of ``growth-cpu.json``.
GROWTH = {
    "parameters 60, 300, 1000": "layers",
    "the same, gradients at every step": "layers-every-step",
    "classes 2, 10, 1000": "classes",
    "side 64, 256, 1024 px (batch 8)": "pixels",
    "masks 64, 256, 512 px, 10 classes (batch 4)": "masks",
    "k 4, 16, 64 (128 px)": "k",
    "samples 500, 5,000, 50,000": "samples",
    "processes 1, 2": "ranks",
}


def shown(value):
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


@pytest.mark.parametrize("title", GROWTH)
def test_how_the_cost_grows(title):
    points = rows_of("growth-cpu")[GROWTH[title]]
    step = ", ".join(shown(point["step"]["low"]) for point in points)
    end, writer = (", ".join(f"{point[of]['low']:.0f}" for point in points) for of in ("loader_end", "writer"))
    memory = ", ".join(f"{point['peak_mib']:.0f}" for point in points if "peak_mib" in point) or "\N{EN DASH}"
    assert f"| {title} | {step} | {end} | {writer} | {memory} |" in README


def test_start_and_loaders():
    start = {name: row["wall_s"]["median"] for name, row in rows_of("startup-cpu").items()}
    assert f"`assay --help` takes {start['help']:.2f} s, `assay list` {start['list']:.2f} s" in README
    assert f"reaches its first step after {start['first_step']:.1f} s" in README
    ratio = {name: f"{row['ratio']['median']:.1f}" for name, row in rows_of("loaders-cpu").items()}
    assert f"{ratio['inria, 0 workers']} times (`inria`) and {ratio['alaska2, 0 workers']} times (`alaska2`)" in README
    assert f"with two workers {ratio['inria, 2 workers']} and {ratio['alaska2, 2 workers']} times" in README


def test_grad_cam_and_the_tests_of_catalyst():
    models = json.loads((RESULTS / "grad-cam-proof.json").read_text())["models"]
    assert min(model["share"] for model in models.values()) >= 0.9
    assert "planted evidence in at least 90% of images" in README
    tests = json.loads((RESULTS / "catalyst-suite.json").read_text())["tests"]["all"]
    words = (
        f"{tests['with']} of the {tests['run']} tests of Catalyst that run on a CPU pass; without it {tests['without']}"
    )
    assert words in README


def test_the_cost_on_a_gpu_is_shown_only_where_it_was_measured():
    found = [json.loads(path.read_text()) for path in RESULTS.glob("gpu-*.json")]
    assert all(result["machine"]["gpu"] and result["device"] == "cuda" for result in found)  # no dry run
    measured = any(
        result["parts"].get(kind, {}).get("rows") for result in found for kind in ("classifier", "masks", "detector")
    )
    assert ("has not been measured yet" in README) != measured
    for linked in re.findall(r"\(benchmarks/results/([\w.-]+)\)", README):
        assert (RESULTS / linked).is_file()
