"""Objects as they come from an archive: each is read alone, by one worker, and nothing of it is kept here."""

import threading
from dataclasses import dataclass
from types import TracebackType

from medgan_core.config import DataConfig
from medgan_core.data.dicom.header import Header
from medgan_core.data.dicom.ingest import Looked, ingest, settings_of
from medgan_core.data.dicom.pool import Pool
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.terms import Terms
from medgan_core.data.dicom.work import Answer, Task


@dataclass(frozen=True)
class Read:
    """An object that is taken: its patient, and a DICOM file of pixels and numbers alone (see `bare`)."""

    patient: str
    bare: bytes


class Stream:
    """One worker until the context ends; may be called from several threads."""

    def __init__(self, data: DataConfig, terms: Terms) -> None:
        self._data, self._terms = data, terms
        self._pool, self._looked, self._one = Pool(settings_of(data), 1), Looked(), threading.Lock()

    def __enter__(self) -> "Stream":
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def read(self, raw: bytes) -> Read:
        """Look at a DICOM file's bytes as any file is looked at, and strip it.

        Raises QuarantineError, with the reason, for what is not taken.
        """
        with self._one:
            found = ingest([("", raw)], self._data, self._terms, pool=self._pool, looked=self._looked)
            if not len(found.images):
                raise QuarantineError(Refusal(next(iter(found.report.refused), Refusal.DAMAGED_PIXELS)))
            header = self._ask(Task(raw, header=True)).header
            if header is None:
                raise RuntimeError("a file that was read has a header")
            frames = tuple(frame.frame for frame in header.frames)
            return Read(
                found.patients[0], self._ask(Task(raw, frames=frames, bare=self._names(header))).dataset
            )

    def _ask(self, task: Task) -> Answer:
        (_, answer) = next(iter(list(self._pool.run([task]))))
        if answer.refusal is not None:
            raise QuarantineError(answer.refusal, answer.detail)
        return answer

    def _names(self, header: Header) -> tuple[str, str]:
        """UIDs of series and object that say nothing, and are the same for the same ones."""
        told = (f"series\n{header.series}", f"object\n{header.uid}")
        first, second = (f"2.25.{int(self._terms.file(name), 16)}" for name in told)
        return first, second
