"""Rules on data sets: each names its fault, and is silent on its healthy twin."""

from dataclasses import replace

from made_probes import found, healthy, make_samples, with_samples

from assay.callbacks.findings.rules.data.shared_images import shared_images


def test_shared_images_names_validation_that_is_training():
    probe = with_samples(healthy(), "valid", lambda _: [replace(it, name=f"v{it.name}") for it in make_samples(100)])
    (finding,) = found(shared_images, probe)
    assert finding.severity == "error"
    assert "train and valid share 100 of 100 images (0 = v0, 1 = v1)" in finding.sentence


def test_shared_images_is_silent_on_separate_images_and_on_blank_ones():
    assert found(shared_images, healthy()) == ()
