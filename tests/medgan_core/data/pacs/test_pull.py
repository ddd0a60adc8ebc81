"""A pull takes what is new, once, through memory; goes on where it was; and says what did not come."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgan_core.data.pacs.cohort import Cohort
from medgan_core.data.pacs.finding import Terms, find
from medgan_core.data.pacs.ledger import PullLedger
from medgan_core.data.pacs.pull import UNREADABLE, Progress, Puller
from medgan_core.errors import DataError, InputError, IntegrityError, MedGANError, SourceError
from medgan_core.privacy.site_key import SiteKey
from tests.medgan_core.data.pacs.objects import Memory, image, raw

KEY = SiteKey(b"k" * 32)
Kept = dict[str, bytes]


@pytest.fixture
def archive() -> Memory:
    """Four studies of three objects."""
    return Memory([raw(image(number, study=str(study))) for study in (1, 2, 3, 4) for number in (1, 2, 3)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def pull(
    archive: Memory,
    path: Path,
    kept: Kept,
    terms: Terms | None = None,
    consume: Callable[[str, bytes], None] | None = None,
    **changes: Any,
) -> tuple[Progress, list[str], dict[str, int]]:
    """What was done, the keys that are kept now, and what was refused."""
    settings = {"pauses": (0.0,)} | changes
    with PullLedger(path) as ledger:
        puller = Puller(archive, terms or Terms(Cohort()), consume or kept.__setitem__, ledger, KEY.pseudonym)
        for name, value in settings.items():
            setattr(puller, name, value)
        return puller.run(), ledger.kept(), dict(ledger.refused())


def test_every_object_comes_once_under_a_name_that_tells_nothing(archive: Memory, path: Path) -> None:
    kept: Kept = {}
    progress, names, refused = pull(archive, path, kept)
    assert sorted(kept.values()) == sorted(archive.objects_)
    assert sorted(kept) == names
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names)
    assert (progress.series, progress.done, progress.known, progress.objects) == (4, 4, 0, 12)
    assert (progress.bytes, refused) == (sum(map(len, archive.objects_)), {})


def test_a_second_pull_fetches_nothing_and_a_new_object_its_series_alone(archive: Memory, path: Path) -> None:
    first: Kept = {}
    pull(archive, path, first)
    archive.fetched.clear()
    again: Kept = {}
    progress, names, _ = pull(archive, path, again)
    assert (again, archive.fetched, progress.known, progress.objects) == ({}, [], 4, 0)
    assert names == sorted(first)
    archive.objects_.append(raw(image(4, study="2")))
    _, names, _ = pull(archive, path, again)
    assert archive.fetched == ["2.25.2.1"]
    assert list(again.values()) == archive.objects_[-1:]
    assert len(names) == 13


def test_what_the_archive_no_longer_has_is_no_longer_kept(archive: Memory, path: Path) -> None:
    pull(archive, path, {})
    del archive.objects_[0]
    assert len(pull(archive, path, {})[1]) == 11
    del archive.objects_[:2]
    assert len(pull(archive, path, {})[1]) == 9


def test_a_pull_that_ended_in_the_middle_goes_on(archive: Memory, path: Path) -> None:
    kept: Kept = {}

    def consume(name: str, content: bytes) -> None:
        if len(kept) == 7:
            raise MedGANError("the disk is full")
        kept[name] = content

    with pytest.raises(MedGANError, match="disk is full"):
        pull(archive, path, kept, consume=consume, transfers=1)
    assert len(kept) == 7
    rest: Kept = {}
    progress, names, _ = pull(archive, path, rest)
    assert len(rest) == 5
    assert not set(rest) & set(kept)
    assert (progress.known, len(names)) == (2, 12)


def test_filters_that_a_server_ignores_are_applied_here(archive: Memory, path: Path) -> None:
    archive.objects_ += [
        raw(image(5, study="1", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
        raw(image(1, study="7", Modality="MR")),
        raw(image(1, study="8", StudyDate="19990101")),
    ]
    terms = Terms(Cohort(modalities=("CT",), begin="2024-01-01", sop_classes=("CTImageStorage",)))
    progress, names, refused = pull(archive, path, {}, terms)
    assert dict(progress.left_out) == {"modality": 1, "study date": 1}
    assert refused == {"SOP class": 1}
    assert len(names) == 12
    assert not {"2.25.7.1", "2.25.8.1"} & set(archive.fetched)


def test_other_terms_look_at_everything_anew(archive: Memory, path: Path) -> None:
    def some(header: Any) -> str | None:
        return None if str(header.SOPInstanceUID).endswith("1") else "no label"

    assert len(pull(archive, path, {}, Terms(Cohort(), "a"))[1]) == 12
    _, names, refused = pull(archive, path, {}, Terms(Cohort(), "b", some))
    assert (len(names), refused) == (4, {"no label": 8})
    assert len(pull(archive, path, {}, Terms(Cohort(), "a"))[1]) == 12


def test_a_known_uid_with_other_pixels_is_noticed_and_refused(archive: Memory, path: Path) -> None:
    pull(archive, path, {})
    archive.objects_[0] = raw(image(1, study="1", seed=9))
    unnoticed: Kept = {}
    assert pull(archive, path, unnoticed)[0].clashes == 0
    progress, names, _ = pull(archive, path, unnoticed, again=True)
    assert (progress.clashes, unnoticed, len(names)) == (1, {}, 12)


def test_two_studies_with_one_uid_and_different_pixels_clash_within_a_pull(
    archive: Memory, path: Path
) -> None:
    archive.objects_.append(raw(image(1, study="9", SOPInstanceUID="2.25.1.1.1")))
    kept: Kept = {}
    progress, names, _ = pull(archive, path, kept)
    assert (progress.clashes, len(names), len(kept)) == (1, 12, 12)


def test_what_is_no_image_is_refused_and_not_asked_for_again(archive: Memory, path: Path) -> None:
    archive.objects_.append(raw(image(4, study="4")))
    damaged: list[bytes] = []

    def consume(name: str, content: bytes) -> None:
        if content == archive.objects_[-1]:
            damaged.append(content)
            raise DataError("damaged")

    _, names, refused = pull(archive, path, {}, consume=consume)
    assert (len(names), refused, len(damaged)) == (12, {UNREADABLE: 1}, 1)
    assert pull(archive, path, {}, consume=consume)[0].objects == 0
    assert len(damaged) == 1


class _Noise(Memory):
    """Gives what is no DICOM in place of the second object."""

    def fetch(self, study: str, series: str, receive: Callable[[bytes], None]) -> None:
        seen: list[bytes] = []

        def spoiled(content: bytes) -> None:
            seen.append(content)
            receive(b"no DICOM" if len(seen) == 2 else content)

        super().fetch(study, series, spoiled)


def test_noise_in_place_of_an_object_is_refused(archive: Memory, path: Path) -> None:
    _, names, refused = pull(_Noise(archive.objects_[:3]), path, {})
    assert (len(names), refused) == (2, {UNREADABLE: 1})


def test_a_series_that_breaks_off_is_tried_again(archive: Memory, path: Path) -> None:
    archive.broken["2.25.3.1"] = 1
    progress, names, _ = pull(archive, path, {})
    assert (progress.failed, progress.done, len(names)) == (0, 4, 12)
    assert archive.fetched.count("2.25.3.1") == 2


def test_a_series_that_never_comes_whole_is_counted_and_the_rest_comes(archive: Memory, path: Path) -> None:
    archive.short.add("2.25.3.1")
    progress, names, _ = pull(archive, path, {})
    assert (progress.failed, progress.done, len(names)) == (1, 3, 10)
    assert progress.why.startswith("2 of 3 objects of a series did not come")
    archive.short.clear()
    progress, names, _ = pull(archive, path, {})
    assert (progress.failed, progress.known, len(names)) == (0, 3, 12)


def test_where_nothing_comes_any_more_the_pull_ends(archive: Memory, path: Path) -> None:
    archive.broken = {f"2.25.{study}.1": 99 for study in (1, 2, 3, 4)}
    with pytest.raises(SourceError, match="3 studies in turn did not come: it broke off"):
        pull(archive, path, {}, transfers=1)


def test_a_no_ends_the_pull_at_once(archive: Memory, path: Path) -> None:
    class Closed(Memory):
        def fetch(self, study: str, series: str, receive: Callable[[bytes], None]) -> None:
            self.fetched.append(series)
            raise SourceError("no")

    closed = Closed(archive.objects_)
    with pytest.raises(SourceError, match=r"^no$"):
        pull(closed, path, {}, transfers=1)
    assert len(closed.fetched) == 1


def test_no_more_transfers_at_once_than_were_allowed(path: Path) -> None:
    archive = Memory([raw(image(1, study=str(study))) for study in range(1, 13)])
    together = threading.Barrier(4)

    def consume(name: str, content: bytes) -> None:
        together.wait(30)  # comes to an end with four at once alone

    pull(archive, path, {}, consume=consume, transfers=4)
    assert archive.most == 4


def test_the_ledger_holds_no_identifier(archive: Memory, path: Path) -> None:
    pull(archive, path, {})
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for value in (b"Lovelace", b"ID-1815", b"ACC-1", b"2.25.1", b"20240310", b"chest"):
        assert value not in content
    assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_two_pulls_at_once_are_refused(path: Path) -> None:
    with PullLedger(path), pytest.raises(InputError, match="another pull works"):
        PullLedger(path)


def test_a_damaged_ledger_is_named_with_its_remedy(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(IntegrityError, match=r"ledger\.sqlite is damaged"):
        PullLedger(path)


def test_a_cleared_ledger_has_forgotten(archive: Memory, path: Path) -> None:
    pull(archive, path, {})
    with PullLedger(path) as ledger:
        ledger.clear()
    kept: Kept = {}
    pull(archive, path, kept)
    assert len(kept) == 12


def test_finding_counts_what_a_check_tells(archive: Memory) -> None:
    archive.objects_.append(raw(image(1, study="7", Modality="MR")))
    found = find(archive, Terms(Cohort(modalities=("CT",))), (), lambda seconds: None)
    assert (found.series, len(found.jobs), dict(found.left_out)) == (4, 4, {"modality": 1})


def test_what_a_library_would_quote_of_a_header_is_not_said(
    path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = raw(image()).replace(b"20240310", b"Lovelace")
    terms = Terms(Cohort(begin="2024-01-01"))
    _, names, refused = pull(Memory([odd]), path, {}, terms)
    assert (names, refused) == ([], {})
    _, _, refused = pull(Memory([odd]), path, {}, Terms(Cohort(), "x", Cohort(begin="2024-01-01").refusal))
    assert refused == {"study date": 1}
    assert "Lovelace" not in caplog.text + "".join(capfd.readouterr())
