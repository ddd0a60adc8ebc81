import math
from dataclasses import replace
from pathlib import Path

import pytest

from medgan_core.errors import RefusedError, ReleaseError
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.provenance import Provenance
from medgan_core.release.files import MANIFEST, created
from tests.medgan_core.release.conftest import folder, public_folder
from tests.medgan_core.release.dicom.making import PROVENANCE

__all__ = ["folder", "public_folder"]


def test_it_is_what_card_and_manifest_say(release: Release) -> None:
    made = Provenance.of(release, 5)
    card = release.card
    assert made.model == release.facts.sha256
    assert (made.epsilon, made.delta, made.unit) == (card.epsilon, card.delta, card.unit)
    assert made.created == created(release.folder)
    assert made.created.utcoffset() is not None
    assert made.seed == 5


def test_a_release_that_is_not_private_is_refused(public_folder: Path) -> None:
    with pytest.raises(RefusedError, match="NOT PRIVATE"):
        Provenance.of(Release.open(public_folder), 0)


@pytest.mark.parametrize("epsilon", [math.inf, math.nan, -1.0])
def test_no_provenance_without_a_finite_epsilon(epsilon: float) -> None:
    with pytest.raises(RefusedError):
        replace(PROVENANCE, epsilon=epsilon)


def test_all_lines_fit_into_the_attribute() -> None:
    for mirrored in (False, True):
        long = replace(PROVENANCE, epsilon=1.23456e-7, delta=1.23456e-9, mirrored=mirrored)
        assert max(map(len, long.method())) <= 64
    assert "without trust" not in " ".join(replace(PROVENANCE, local_epsilon=None).method())


def test_of_a_mirrored_cohort_it_is_not_said_that_nothing_was_copied() -> None:
    drawn, mirrored = (replace(PROVENANCE, mirrored=flag).method() for flag in (False, True))
    assert drawn[:-1] == mirrored[:-1]
    assert "No attribute was copied" in drawn[-1]
    assert "NOT DP, internal use only" in mirrored[-1]


@pytest.mark.parametrize("body", ["{}", "no json", '{"created": 5}', '{"created": "yesterday"}'])
def test_a_manifest_without_a_date(folder: Path, body: str) -> None:
    (folder / MANIFEST).write_text(body)
    with pytest.raises(ReleaseError, match=MANIFEST):
        created(folder)
