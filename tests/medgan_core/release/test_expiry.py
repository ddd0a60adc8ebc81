from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medgan_core.errors import ReleaseError
from medgan_core.release.bundle import Release
from medgan_core.release.card import expiry
from medgan_core.release.card_text import words
from medgan_core.release.verify import verify_release
from tests.medgan_core.release.making import build, rewrite

YEAR = {
    "release.valid_days": 365,
    "release.contact": "privacy@clinic.example",
    "release.licence": "cc-by-4.0",
}


@pytest.fixture(scope="module")
def ending(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("ending") / "release", YEAR)


def test_without_a_setting_there_is_no_end(release: Release) -> None:
    assert (release.card.expires, expiry(release.card.created, 0)) == ("", "")
    verify_release(release.folder, now=datetime(2999, 1, 1, tzinfo=UTC))
    assert "no end was set" in words(release.card)


def test_the_end_is_on_the_card_with_whom_to_ask(ending: Release) -> None:
    created, expires = (datetime.fromisoformat(t) for t in (ending.card.created, ending.card.expires))
    assert expires - created == timedelta(days=365)
    told = words(ending.card)
    for part in (ending.card.expires, "privacy@clinic.example", "cc-by-4.0"):
        assert part in told


@pytest.mark.parametrize(("days", "warnings"), [(0, 0), (300, 0), (336, 1), (364.9, 1)])
def test_until_then_it_passes_and_warns_in_the_last_month(
    ending: Release, days: float, warnings: int
) -> None:
    now = datetime.fromisoformat(ending.card.created) + timedelta(days=days)
    assert len(verify_release(ending.folder, now=now).warnings) == warnings


@pytest.mark.parametrize("days", [365, 5000])
def test_from_then_on_it_fails(ending: Release, days: int) -> None:
    now = datetime.fromisoformat(ending.card.created) + timedelta(days=days)
    with pytest.raises(
        ReleaseError, match=r"^card.json: the release was to be used until .*; ask privacy@clinic"
    ):
        verify_release(ending.folder, now=now)


@pytest.mark.parametrize(
    ("name", "value"),
    [("expires", "2999-01-01T00:00:00+00:00"), ("contact", "me"), ("licence", "mit"), ("created", "then")],
)
def test_the_card_says_what_the_study_set(tmp_path: Path, name: str, value: str) -> None:
    folder = build(tmp_path / "release", YEAR).folder
    rewrite(folder, "card.json", lambda body: body | {name: value})
    with pytest.raises(ReleaseError, match=r"^card.json: (expires|contact|licence|created)"):
        verify_release(folder)
