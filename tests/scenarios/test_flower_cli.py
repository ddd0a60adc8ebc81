"""A person's whole way on Flower's engine: run, verify, generate."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.simulations.making import call, study_file, write_set

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run through Flower in a process of its own."""
    folder = tmp_path_factory.mktemp("flower")
    root = write_set(folder / "data")
    done = call(
        "medgan-sim",
        "run",
        study_file(folder),
        "--data",
        root,
        "--out",
        folder / "runs",
        "--engine",
        "flower",
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_the_release_verifies(run: Path) -> None:
    done = call("medgan", "verify", run / "release")
    assert done.returncode == 0, done.stderr
    assert "integrity only: epsilon 2.156 at delta 1e-05" in done.stdout


def test_a_changed_release_does_not(run: Path, tmp_path: Path) -> None:
    changed = tmp_path / "release"
    shutil.copytree(run / "release", changed)
    (changed / "card.md").write_text("all is well")
    done = call("medgan", "verify", changed)
    assert done.returncode == 1
    assert "card.md" in done.stderr


def test_images_are_drawn_as_asked(run: Path, tmp_path: Path) -> None:
    release, out = run / "release", tmp_path / "images.npz"
    labels = ("--labels", "normal=3,pneumonia=7", "--seed", 1)
    done = call("medgan", "generate", release, *labels, "--format", "npz", "--out", out)
    assert done.returncode == 0, done.stderr
    with np.load(out) as drawn:
        images, drawn_labels, classes = drawn["images"], drawn["labels"], drawn["classes"]
    assert (images.shape, images.dtype) == ((10, 28, 28), np.uint8)
    assert (drawn_labels.dtype, np.bincount(drawn_labels).tolist()) == (np.int64, [3, 7])
    assert classes.tolist() == ["normal", "pneumonia"]
    done = call("medgan", "generate", release, "--n", 6, "--format", "png", "--out", tmp_path / "png")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "png" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert len(list((tmp_path / "png").glob("*/*.png"))) == 6


def test_resuming_it_changes_nothing(run: Path) -> None:
    done = call("medgan-sim", "resume", run)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(run))
