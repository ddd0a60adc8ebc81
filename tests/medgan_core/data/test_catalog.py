from hashlib import sha256
from pathlib import Path

import pytest

from medgan_core.data import catalog
from medgan_core.data.catalog import PUBLISHED, PublishedSet, missing, published
from tests.medgan_core.data.making import shared


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {"a.npz": b"images", "b.csv": b"patients"}
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)
    digests = {name: sha256(body).hexdigest() for name, body in files.items()}
    monkeypatch.setattr(
        catalog, "PUBLISHED", {"tiny": PublishedSet("tiny", "Tiny", "https://x", "CC0", digests)}
    )
    return tmp_path


def test_the_published_files_are_recognised_by_content_and_not_by_name(tiny: Path) -> None:
    assert published(tiny) == published(tiny / "a.npz")
    found = published(tiny)
    assert found is not None
    assert found.name == "tiny"
    (tiny / "b.csv").write_bytes(b"patients of a hospital")
    assert published(tiny) is None
    (tiny / "b.csv").unlink()
    assert published(tiny / "a.npz") is None


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_shared_sets_are_the_published_ones(name: str) -> None:
    assert published(shared(name) / name) is PUBLISHED[name]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_missing_file_comes_with_the_address_of_its_archive(name: str) -> None:
    file = next(iter(PUBLISHED[name].files))
    message = str(missing(f"{name}/{file}"))
    assert message.startswith(f"{name}/{file} is missing")
    for part in (PUBLISHED[name].address, f"<data root>/{name}/{file}", "--data", "MEDGAN_DATA"):
        assert part in message


def test_a_missing_file_of_an_unknown_set_names_no_archive_and_no_absolute_path() -> None:
    assert "comes from" not in str(missing("ours/images.npz"))
    assert "/home/someone" not in str(missing("/home/someone/images.npz"))
    assert "is missing" in str(missing(""))


def test_files_that_not_every_study_asks_for_are_checked_where_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"images")
    digest = {"m.zip": sha256(b"masks").hexdigest()}
    found = PublishedSet("tiny", "Tiny", "https://x", "CC0", {"a.npz": ""}, more=digest)
    images, masks = tmp_path / "a.npz", tmp_path / "m.zip"
    assert found.holds(tmp_path, [images])  # without masks
    masks.write_bytes(b"masks")
    assert found.holds(tmp_path, [images, masks])
    masks.write_bytes(b"masks of a hospital")
    assert not found.holds(tmp_path, [images, masks])
    assert found.holds(tmp_path, [images])
    assert not found.holds(tmp_path, [images, tmp_path / "own.png"])
