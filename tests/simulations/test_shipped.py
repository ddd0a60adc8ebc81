from pathlib import Path

import pytest

from medgan_core.config import load_study
from medgan_core.errors import InputError
from medgan_core.gan.tasks import TASKS
from simulations.shipped import STUDIES, study_names, study_path


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_is_valid_and_named_as_its_file(name: str) -> None:
    study = load_study(study_path(name))
    assert study.name == name
    assert (study.phantoms is not None) == (name == "phantoms")
    assert len(study.data.classes) >= (0 if study.data.kind == "nifti" else 2)


def test_every_task_has_a_study() -> None:
    assert {load_study(study_path(name)).task for name in study_names()} == set(TASKS)


def test_a_study_is_found_by_name_or_path_and_a_path_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"chestxray64", "mednist", "mnist", "phantoms", "pneumonia"} <= set(study_names())
    assert list(study_names()) == sorted(study_names())
    assert study_path("pneumonia") == study_path("pneumonia.toml") == STUDIES / "pneumonia.toml"
    monkeypatch.chdir(tmp_path)
    Path("pneumonia.toml").touch()
    assert study_path("pneumonia.toml") == Path("pneumonia.toml")
    assert study_path("pneumonia") == STUDIES / "pneumonia.toml"


@pytest.mark.parametrize("name", ["", "pneumony", "../pneumonia", "nowhere/pneumonia.toml"])
def test_an_unknown_study_lists_the_shipped_ones(name: str) -> None:
    with pytest.raises(InputError, match=", ".join(study_names())):
        study_path(name)
