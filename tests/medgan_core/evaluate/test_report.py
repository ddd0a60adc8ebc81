import json
from dataclasses import replace
from math import isfinite, isnan

import pytest
import torch

from medgan_core.evaluate.report import site_report
from tests.medgan_core.evaluate.shapes import CARD, shapes, site_of_shapes

pytestmark = pytest.mark.usefixtures("few_steps")

TRAINING, HELD_OUT = site_of_shapes(30, 2, 1), site_of_shapes(40, 2, 2)


def test_good_synthetic_images_are_as_useful_as_real_ones() -> None:
    report = site_report(TRAINING, HELD_OUT, *shapes(60, 3), seed=0)
    assert report.train_on_real.auc > 0.9
    assert report.train_on_synthetic.auc > 0.9
    body = report.to_json()
    assert all(isfinite(figure) for figures in body.values() for figure in figures.values())
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert site_report(TRAINING, HELD_OUT, *shapes(60, 3), seed=0) == report


def test_nothing_held_out_is_nan_not_an_error() -> None:
    report = site_report(TRAINING, HELD_OUT.of_patients([]), *shapes(20, 3), seed=0)
    assert isnan(report.train_on_real.auc)
    assert isnan(report.memorization.to_training)
    assert isfinite(report.fidelity.frechet)
    body = report.to_json()
    assert body["train_on_synthetic"]["accuracy"] == "nan"
    json.dumps(body, allow_nan=False)


def test_no_real_training_images_is_nan_not_an_error() -> None:
    report = site_report(TRAINING.of_patients([]), HELD_OUT, *shapes(20, 3), seed=0)
    assert isnan(report.train_on_real.accuracy)
    assert isfinite(report.train_on_synthetic.accuracy)
    assert isnan(report.fidelity.coverage)


def test_held_out_patients_of_one_class_have_accuracy_alone_and_one_class_in_all_has_nothing() -> None:
    ones = HELD_OUT.labels == 1
    held_out = replace(
        HELD_OUT, owner=HELD_OUT.owner[ones], images=HELD_OUT.images[ones], labels=HELD_OUT.labels[ones]
    )
    images, labels = shapes(20, 3)
    report = site_report(TRAINING, held_out, images[labels == 1], labels[labels == 1], seed=0)
    assert report.train_on_synthetic.accuracy == 1.0
    assert isnan(report.train_on_real.auc)
    card = replace(CARD, classes=("tall",))
    zero = torch.zeros_like
    alone = [replace(site, card=card, labels=zero(site.labels)) for site in (TRAINING, HELD_OUT)]
    of_one = site_report(alone[0], alone[1], images, zero(labels), seed=0)
    assert isnan(of_one.train_on_real.accuracy)  # all answers are right where there is but one
    assert isnan(of_one.train_on_synthetic.accuracy)
    assert isfinite(of_one.fidelity.coverage)


def test_only_a_task_with_channels_that_belong_together_tells_of_them() -> None:
    images, labels = shapes(20, 3)
    plain = site_report(TRAINING, HELD_OUT, images, labels, seed=0).to_json()
    both = site_report(TRAINING, HELD_OUT, images, labels, seed=0, task="volume").to_json()
    assert "structure" not in plain
    assert set(both["structure"]) >= {"slice_correlation_synthetic", "slice_correlation_real"}


def test_a_diverged_generator_has_no_figures() -> None:
    images, labels = shapes(20, 3)
    images[4, 0, 0, 0] = float("nan")
    report = site_report(TRAINING, HELD_OUT, images, labels, seed=0)
    assert isnan(report.train_on_synthetic.accuracy)
    assert isnan(report.fidelity.frechet)
    assert isnan(report.memorization.share_nearer_training)
    assert isfinite(report.train_on_real.accuracy)


def test_copies_are_found_among_training_patients_and_not_among_those_held_out() -> None:
    copied = site_report(TRAINING, HELD_OUT, TRAINING.images, TRAINING.labels, seed=0).to_json()["copying"]
    assert set(copied) == {
        "training_by_hash",
        "held_out_by_hash",
        "training_by_pixels",
        "held_out_by_pixels",
    }
    assert copied["training_by_hash"] == copied["training_by_pixels"] == 1
    assert copied["held_out_by_pixels"] < 0.2
