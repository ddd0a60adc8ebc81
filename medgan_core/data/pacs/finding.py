"""Which studies and series of an archive are asked for, by what it tells of them before anything is sent."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from pydicom import Dataset

from medgan_core.data.pacs.cohort import Cohort, text_of
from medgan_core.data.pacs.pace import Sleep, patiently
from medgan_core.data.pacs.source import Source

NO_LABEL = "no label"
Admit = Callable[[Dataset], str | None]


class Annotations(Protocol):
    """Objects of a study that say something about its images, and have to be there before these are."""

    def holds(self, series: Dataset) -> bool:
        """Whether a series has such objects."""
        ...

    def add(self, raw: bytes) -> None:
        """Take one of them. DataError where it cannot be read."""
        ...

    def forget(self, study: str) -> None:
        """A study is done."""
        ...


def _nothing_against(header: Dataset) -> str | None:
    return None


@dataclass(frozen=True)
class Terms:
    """What decides about objects.

    `admit` gives the word against an object that is of the cohort, or None; `worth` is the same for a series,
    by what a query told. `digest` is of all of this, as the site's person wrote it down.
    """

    cohort: Cohort
    digest: str = ""
    admit: Admit = _nothing_against
    worth: Admit = _nothing_against
    annotations: Annotations | None = None

    def against(self, header: Dataset) -> str | None:
        """The word against an object."""
        return self.cohort.refusal(header) or self.admit(header)

    def against_series(self, header: Dataset) -> str | None:
        """The word against a series, by what a query told."""
        return self.cohort.contradicted(header) or self.worth(header)


@dataclass(frozen=True)
class Job:
    """A study: those of its series that are asked for, and those that annotate them."""

    study: str
    series: tuple[str, ...]
    annotations: tuple[str, ...]


@dataclass
class Found:
    """All jobs, and how many studies and series were left out, by the word against them."""

    jobs: list[Job] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def series(self) -> int:
        """How many series are asked for."""
        return sum(len(job.series) for job in self.jobs)


def find(source: Source, terms: Terms, pauses: tuple[float, ...], sleep: Sleep) -> Found:
    """Ask for the cohort. SourceError where the archive does not answer."""
    found = Found()
    for uid, study in _studies(source, terms, pauses, sleep):
        if (why := terms.cohort.contradicted(study)) is not None:
            found.left_out[why] += 1
            continue
        series = patiently(partial(source.series, uid), pauses, sleep)
        if (job := _job(uid, study, series, terms, found.left_out)).series:
            found.jobs.append(job)
    return found


def _studies(
    source: Source, terms: Terms, pauses: tuple[float, ...], sleep: Sleep
) -> Iterator[tuple[str, Dataset]]:
    """Each study once."""
    seen: set[str] = set()
    for keys in terms.cohort.queries():
        for study in patiently(partial(source.studies, keys), pauses, sleep):
            uid = text_of(study, "StudyInstanceUID")
            if uid and uid not in seen:
                seen.add(uid)
                yield uid, study


def _job(uid: str, study: Dataset, found: list[Dataset], terms: Terms, left_out: Counter[str]) -> Job:
    series, annotations = [], []
    for told in found:
        name = text_of(told, "SeriesInstanceUID")
        header = Dataset()
        header.update(study)
        header.update(told)
        if terms.annotations is not None and terms.annotations.holds(header):
            annotations.append(name)
        elif (why := terms.against_series(header)) is not None:
            left_out[why] += 1
        elif name:
            series.append(name)
    return Job(uid, tuple(dict.fromkeys(series)), tuple(annotations))
