"""A cohort, pulled from an archive object by object through memory, and handed to whoever consumes it.

Nothing of an object is written here. What is on disk afterwards is the ledger, which has keyed hashes, and
what the consumer keeps. A pull may be killed at any time and started again.
"""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TypeVar

from pydicom import Dataset

from medgan_core.data.dicom.reasons import QuarantineError
from medgan_core.data.pacs.cohort import text_of
from medgan_core.data.pacs.finding import Found, Job, Terms, find
from medgan_core.data.pacs.headers import digest_of, header_of, quiet
from medgan_core.data.pacs.ledger import KEPT, Entry, PullLedger
from medgan_core.data.pacs.pace import PAUSES, Pace, patiently
from medgan_core.data.pacs.source import Source
from medgan_core.errors import DataError, SourceError

Consumer = Callable[[str, bytes], None]
"""Takes a name that tells nobody anything, and a DICOM file's bytes; what it keeps is then on disk.

DataError refuses the object; any other error ends the pull. Called from several threads at once.
"""
Pseudonym = Callable[[str], str]
OTHER_PIXELS = "its UID came before with other pixels"
UNREADABLE = "not readable as an image"
UNREADABLE_NOTE = "segmentation not readable"
TRANSFERS = 4
"""At once."""
T = TypeVar("T")
_DEAD = 3


@dataclass
class Progress:
    """What a pull did: counts alone.

    `series` are asked for; of them `known` were here already, `done` now are, `failed` did not come, or not
    whole, for the reason `why`. `objects` and `bytes` were received, `clashes` of them with a known UID and
    other pixels. `left_out` are studies and series by the word against them.
    """

    series: int = 0
    known: int = 0
    done: int = 0
    failed: int = 0
    why: str = ""
    objects: int = 0
    bytes: int = 0
    clashes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Place:
    """Where an object comes from: the series, its key in the ledger, a digest of the terms, its size."""

    study: str
    series: str
    key: str
    terms: str
    expected: int


@dataclass
class Puller:
    """One pull. `again`: look at every object anew. `tell` gets the progress after each study."""

    source: Source
    terms: Terms
    consume: Consumer
    ledger: PullLedger
    pseudonym: Pseudonym
    pace: Pace = field(default_factory=lambda: Pace(0))
    transfers: int = TRANSFERS
    again: bool = False
    pauses: tuple[float, ...] = PAUSES
    tell: Callable[[Progress], None] = lambda progress: None
    progress: Progress = field(default_factory=Progress)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _stripes: tuple[threading.Lock, ...] = field(
        default_factory=lambda: tuple(threading.Lock() for _ in range(64))
    )

    def run(self) -> Progress:
        """Find the cohort, and fetch what is not here yet.

        SourceError where the archive says no, or where one study after the other does not come.
        """
        with quiet():
            return self._run()

    def _run(self) -> Progress:
        found = find(self.source, self.terms, self.pauses, self._sleep)
        self.progress.series, self.progress.left_out = found.series, found.left_out
        self.tell(self.progress)
        with ThreadPoolExecutor(self.transfers) as pool:
            try:
                self._fetch(found, pool)
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self.progress

    def _fetch(self, found: Found, pool: ThreadPoolExecutor) -> None:
        failures = 0
        for future in as_completed([pool.submit(self._study, job) for job in found.jobs]):
            failures = 0 if future.result() else failures + 1
            self.tell(self.progress)
            if failures >= _DEAD:
                raise SourceError(f"{failures} studies in turn did not come: {self.progress.why}")

    def _study(self, job: Job) -> bool:
        """Fetch what is not here of a study; whether all of it came."""
        if self._stopped.is_set():
            return False
        done = 0
        try:
            terms, annotated = self._terms(job), False
            for series in job.series:
                objects = self._objects(job, series)
                listing = self._digest(objects, terms)
                key = self.pseudonym(f"series\n{series}")
                known = not self.again and self.ledger.finished(key, listing)
                if not known:
                    annotated = annotated or self._annotate(job)
                    place = _Place(job.study, series, key, terms, len(objects))
                    self._ask(partial(self._series, place))
                    self.ledger.finish(key, listing)
                done += 1
                self._count(done=1, known=int(known))
        except SourceError as error:
            if not error.passing:
                self._stopped.set()  # before the next study is begun, and not when this error is heard of
                raise
            self._count(failed=len(job.series) - done)
            self.progress.why = str(error)
        finally:
            if self.terms.annotations is not None:
                self.terms.annotations.forget(job.study)
        return done == len(job.series)

    def _terms(self, job: Job) -> str:
        """A digest of what decides about the objects of a study: the terms, and its annotations."""
        notes = [uid for series in job.annotations for uid in self._objects(job, series)]
        return self._digest(frozenset(notes), self.terms.digest)

    def _digest(self, objects: frozenset[str], terms: str) -> str:
        return self.pseudonym("\n".join(["listing", terms, *sorted(objects)]))

    def _objects(self, job: Job, series: str) -> frozenset[str]:
        return self._ask(partial(self.source.objects, job.study, series))

    def _annotate(self, job: Job) -> bool:
        """Read the annotations of a study; always true."""
        notes = self.terms.annotations
        if notes is not None:
            for series in job.annotations:
                self._ask(partial(self.source.fetch, job.study, series, self._noted))
        return True

    def _noted(self, raw: bytes) -> None:
        self._received(raw)
        try:
            if self.terms.annotations is not None:
                self.terms.annotations.add(raw)
        except DataError:  # its images are without a label then
            with self._counting:
                self.progress.left_out[UNREADABLE_NOTE] += 1

    def _series(self, place: _Place) -> None:
        """Fetch a series. SourceError, which may pass, where fewer objects come than the archive lists."""
        came = 0

        def receive(raw: bytes) -> None:
            nonlocal came
            self._take(raw, place)
            came += 1

        self.source.fetch(place.study, place.series, receive)
        if came < place.expected:
            raise SourceError(
                f"{place.expected - came} of {place.expected} objects of a series did not come; pull "
                "again, and see the archive's log",
                passing=True,
            )

    def _take(self, raw: bytes, place: _Place) -> None:
        """Hand an object to the consumer, unless it is known or refused."""
        self._received(raw)
        try:
            header = header_of(raw)
            name = f"object\n{text_of(header, 'SOPInstanceUID')}"
        except DataError:
            header, name = None, f"bytes\n{sha256(raw).hexdigest()}"
        key, pixels = self.pseudonym(name), self.pseudonym(f"pixels\n{digest_of(raw)}")
        with self._stripes[int(key, 16) % len(self._stripes)]:
            known = self.ledger.find(key)
            if known is not None and known.reason == KEPT and known.pixels != pixels:
                self._count(clashes=1)
                self.ledger.seen(key)
            elif known is not None and (known.pixels, known.terms) == (pixels, place.terms):
                self.ledger.seen(key)
            else:
                why = self._decide(key, raw, header)
                self.ledger.record(key, place.key, Entry(pixels, why, place.terms))

    def _decide(self, key: str, raw: bytes, header: Dataset | None) -> str:
        """`KEPT` where the consumer has it, else the word against it."""
        try:
            if header is None:
                return UNREADABLE
            if (why := self.terms.against(header)) is not None:
                return why
            self.consume(key, raw)
        except QuarantineError as refused:
            return str(refused.reason)
        except DataError:
            return UNREADABLE
        return KEPT

    def _received(self, raw: bytes) -> None:
        if self._stopped.is_set():
            raise SourceError("the pull was stopped")
        self._count(objects=1, bytes=len(raw))
        self.pace.spend(len(raw))

    def _ask(self, action: Callable[[], T]) -> T:
        return patiently(action, self.pauses, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, count in more.items():
                setattr(self.progress, name, getattr(self.progress, name) + count)
