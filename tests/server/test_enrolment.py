"""Who is let in: cards, names, keys; and what Flower is to be told of it."""

from pathlib import Path

import pytest

from medgan_core.errors import InputError
from medgan_core.public_card import PublicCard
from medgan_core.record import read_json, write_json
from server.enrolment import Registered, enrol, enrolled, revoke
from server.folder import CoordinatorFolder
from server.settings import Settings
from tests.server.sites import TestSite


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(tmp_path / "c", Settings())


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return written(tmp_path, 1)


def written(path: Path, number: int) -> Path:
    """The public card of a new site as a file."""
    file = path / f"card-{number}.json"
    TestSite(number, path / "home", path).card.write(file)
    return file


def test_a_card_is_kept_under_its_site_s_name(folder: CoordinatorFolder, card: Path) -> None:
    told = enrol(folder, card, "site-1")
    assert enrolled(folder) == {"site-1": told}
    assert enrol(folder, card) == told


def test_another_name_than_the_card_s_is_refused(folder: CoordinatorFolder, card: Path) -> None:
    with pytest.raises(InputError, match="--name north: the card is of site-1"):
        enrol(folder, card, "north")
    assert enrolled(folder) == {}


def test_new_keys_under_an_old_name_want_a_revocation_first(
    folder: CoordinatorFolder, card: Path, tmp_path: Path
) -> None:
    old = enrol(folder, card)
    with pytest.raises(InputError, match=r"site-1 is enrolled with SHA256:.*revoke site-1 first"):
        enrol(folder, written(tmp_path, 1))
    assert revoke(folder, "site-1") == old
    assert enrol(folder, written(tmp_path, 1)) != old


def test_two_sites_share_no_key(folder: CoordinatorFolder, card: Path, tmp_path: Path) -> None:
    first = enrol(folder, card)
    twin = tmp_path / "twin.json"
    PublicCard("site-2", first.node_key, "ab" * 32).write(twin)
    with pytest.raises(InputError, match=r"twin\.json: one of its keys is that of site-1"):
        enrol(folder, twin)


def test_a_changed_card_and_an_unknown_name_are_refused(folder: CoordinatorFolder, card: Path) -> None:
    write_json(card, {**read_json(card), "verify_key": "ab" * 32})
    with pytest.raises(InputError, match="fingerprint is of other keys"):
        enrol(folder, card)
    with pytest.raises(InputError, match="NAME x: not enrolled; enrolled are none"):
        revoke(folder, "x")


def test_flower_is_told_of_new_gone_and_changed_keys(
    folder: CoordinatorFolder, card: Path, tmp_path: Path
) -> None:
    registered = Registered(folder)
    first = enrol(folder, card)
    assert registered.differences(enrolled(folder)) == ([], [first])
    assert registered.key_file(first).read_text() == f"{first.node_key}\n"
    registered.add(first, "17")
    assert registered.differences(enrolled(folder)) == ([], [])
    revoke(folder, "site-1")
    assert registered.differences(enrolled(folder)) == ([("site-1", "17")], [])
    changed = enrol(folder, written(tmp_path, 1))
    assert registered.differences(enrolled(folder)) == ([("site-1", "17")], [changed])
    registered.drop("site-1")
    assert registered.differences(enrolled(folder)) == ([], [changed])
