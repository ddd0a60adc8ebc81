"""Files or bytes to images: index the headers, plan each patient, decode in parallel, report on every file.

Fields of the result are private; what may leave a site is decided elsewhere. What is taken of a patient is a
function of that patient's files alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from pydicom import Dataset
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.dicom.items import Item, by_patient, check_strictly, copies
from medgan_core.data.dicom.pool import Pool
from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.series import Picture, Plan, Slice, plan
from medgan_core.data.dicom.sources import Source
from medgan_core.data.dicom.terms import PUBLISHED, Ingested, Terms
from medgan_core.data.dicom.text import CHECKED_KINDS
from medgan_core.data.dicom.work import Answer, Settings, Task
from medgan_core.data.transforms import at_spacing, prepare_each

_FILES_AT_ONCE, _BYTES_AT_ONCE = 256, 1 << 27
_BATCH = 256

Rule = Callable[[Dataset], str | None]


@dataclass
class Looked:
    """Which series of whose were looked at for text, and why those are refused that showed some."""

    seen: set[tuple[str, str]] = field(default_factory=set)
    refused: dict[tuple[str, str], Refusal] = field(default_factory=dict)


def ingest(
    sources: Iterable[tuple[str, Source]],
    data: DataConfig,
    terms: Terms = PUBLISHED,
    *,
    admit: Rule | None = None,
    label_of: Rule | None = None,
    patient_of: Mapping[str, str] | None = None,
    workers: int | None = None,
    pool: Pool | None = None,
    looked: Looked | None = None,
) -> Ingested:
    """Read all sources, each (name, file or bytes); bytes are decoded as they come and not kept.

    `admit` gives a reason to leave an object out, None to take it; `label_of` its label, None where it has
    none: such an object is refused. Both see the header without private, long and binary values.
    `patient_of` maps a name to the patient that a manifest states. Who reads in parts gives all of them one
    `pool` of `settings_of(data)`, and what was `looked` at. Raises DataError with `terms.strict`.
    """
    with nullcontext(pool) if pool else Pool(settings_of(data), workers) as pool:
        reading = _Reading(data, terms, pool, admit, label_of, patient_of or {}, looked or Looked())
        reading.index(sources)
        if terms.strict:
            check_strictly(reading.items)
        reading.settle_copies()
        plans = reading.plan()
        reading.look_at_series(plans)
        finished = reading.decode(plans)
    if terms.strict:
        check_strictly(reading.items)
    return reading.result(plans, finished)


def settings_of(data: DataConfig) -> Settings:
    """How workers read for these images."""
    return Settings(data.window, data.frames, 0 if data.spacing else data.image_size)


class _Reading:
    def __init__(
        self,
        data: DataConfig,
        terms: Terms,
        pool: Pool,
        admit: Rule | None,
        label_of: Rule | None,
        patient_of: Mapping[str, str],
        looked: Looked,
    ) -> None:
        self.items: list[Item] = []
        self._data, self._terms, self._pool = data, terms, pool
        self._admit, self._label_of, self._patient_of = admit, label_of, patient_of
        self._looked = looked

    def index(self, sources: Iterable[tuple[str, Source]]) -> None:
        """The header of every file; bytes are decoded at once."""
        rules = bool(self._admit or self._label_of)
        for chunk in _chunks(sources):
            fresh = [Item(name, self._terms.file(name), source) for name, source in chunk]
            tasks = (Task(source, header=True, dataset=rules) for _, source in chunk)
            for i, answer in self._pool.run(tasks):
                if fresh[i].hear(answer):
                    self._enter(fresh[i], answer)
            self._decode_early(fresh)
            self.items += fresh
        for item in self.items:
            reason = self._looked.refused.get((item.patient, item.header.series)) if item.header else None
            if reason is not None:
                item.refuse(reason)

    def _enter(self, item: Item, answer: Answer) -> None:
        header = item.header = answer.header
        if header is None:
            return
        text = self._patient_of.get(item.name) or header.patient
        if not text and self._terms.needs_patient:
            item.refuse(Refusal.NO_PATIENT)
        item.named, item.patient = bool(text), self._terms.patient(text or f"image\n{item.name}")
        if header.localizer:
            item.refuse(Refusal.LOCALIZER)
        if header.says_text and self._terms.text_check:
            item.refuse(Refusal.TEXT, "the header says so")
        if answer.dataset and item.refusal is None:
            self._ask_rules(item, pydicom.dcmread(BytesIO(answer.dataset), force=True))

    def _ask_rules(self, item: Item, dataset: Dataset) -> None:
        reason = self._admit(dataset) if self._admit else None
        if reason is not None:
            item.refuse(Refusal.COHORT, reason)
            return
        label = self._label_of(dataset) if self._label_of else ""
        if label is None:
            item.refuse(Refusal.NO_LABEL)
        item.label = label or ""

    def _decode_early(self, fresh: list[Item]) -> None:
        """Bytes of a PACS to small images, so that nothing else of them is kept."""
        early = [item for item in fresh if isinstance(item.source, bytes) and item.refusal is None]
        tasks = (self._early_task(item) for item in early)
        for i, answer in self._pool.run(tasks):
            item = early[i]
            if item.hear(answer) and item.header:
                item.digest = "/".join(answer.digests)
                frames = zip(item.header.frames, answer.images, strict=True)
                item.early = {frame.frame: image for frame, image in frames}
            if answer.text or answer.refusal is Refusal.TEXT_UNCHECKED:
                self._note_text(item, answer.refusal or Refusal.TEXT)
        for item in fresh:
            item.source = None if isinstance(item.source, bytes) else item.source

    def _early_task(self, item: Item) -> Task:
        if item.header is None or item.source is None:
            raise RuntimeError("a file without a header is not decoded")
        series = (item.patient, item.header.series)
        due = item.header.kind in CHECKED_KINDS or series not in self._looked.seen
        self._looked.seen.add(series)
        frames = tuple(frame.frame for frame in item.header.frames)
        return Task(item.source, pixels=True, digest=True, text=self._terms.text_check and due, frames=frames)

    def _note_text(self, item: Item, reason: Refusal) -> None:
        if item.header and item.header.kind not in CHECKED_KINDS:
            self._looked.refused[item.patient, item.header.series] = reason
        item.refuse(reason)

    def settle_copies(self) -> None:
        """Of several files with one UID and equal pixels one is taken, of unequal ones none."""
        groups = list(copies(by_patient(enumerate(self.items))))
        asked = [i for group in groups for i in group if not self.items[i].digest]
        for place, answer in self._pool.run(self._task(i, digest=True) for i in asked):
            if self.items[asked[place]].hear(answer):
                self.items[asked[place]].digest = "/".join(answer.digests)
        for group in groups:
            alike = len({self.items[i].digest for i in group if self.items[i].refusal is None}) == 1
            whole = [i for i in group if self.items[i].refusal is None]
            for i in whole[1:] if alike else whole:
                self.items[i].refuse(Refusal.DUPLICATE if alike else Refusal.UID_CONFLICT)

    def _task(self, index: int, *, digest: bool) -> Task:
        item = self.items[index]
        if item.header is None or item.source is None:
            raise RuntimeError("a file without a header or source is not decoded")
        return Task(item.source, digest=digest, frames=tuple(frame.frame for frame in item.header.frames))

    def plan(self) -> dict[str, Plan]:
        """What is taken of each patient."""
        self._refuse_without_spacing()
        plans = {
            patient: plan(files, self._data) for patient, files in by_patient(enumerate(self.items)).items()
        }
        for made in plans.values():
            for index, reason in made.refused.items():
                self.items[index].refuse(reason)
            for index, repair in made.repaired.items():
                self.items[index].repairs.add(str(repair))
        return plans

    def _refuse_without_spacing(self) -> None:
        for item in self.items:
            if self._data.spacing and item.header and not all(f.spacing for f in item.header.frames):
                item.refuse(Refusal.NO_SPACING)

    def look_at_series(self, plans: Mapping[str, Plan]) -> None:
        """Look for text in one image of each CT or MR series; with text the series is refused."""
        if not self._terms.text_check:
            return
        series: dict[tuple[str, str], list[Picture]] = {}
        for patient, made in plans.items():
            for picture in made.pictures:
                series.setdefault((patient, picture.series), []).append(picture)
        centers = [pictures[len(pictures) // 2].center for pictures in series.values()]
        looked = [
            (center, pictures)
            for center, pictures in zip(centers, series.values(), strict=True)
            if self._is_file(center) and self._kind(center.file) not in CHECKED_KINDS
        ]
        tasks = (Task(self._source(c.file), text=True, frames=(c.frame,)) for c, _ in looked)
        for i, answer in self._pool.run(tasks):
            center, pictures = looked[i]
            self.items[center.file].hear(answer)
            if answer.text or answer.refusal is Refusal.TEXT_UNCHECKED:
                for index in {part.file for picture in pictures for part in picture.slices}:
                    self.items[index].refuse(Refusal.TEXT if answer.text else Refusal.TEXT_UNCHECKED)

    def _is_file(self, part: Slice) -> bool:
        item = self.items[part.file]
        return item.refusal is None and item.source is not None

    def _kind(self, index: int) -> str:
        header = self.items[index].header
        return header.kind if header else ""

    def _source(self, index: int) -> Source:
        source = self.items[index].source
        if source is None:
            raise RuntimeError("bytes that were decoded already are not there any more")
        return source

    def decode(self, plans: Mapping[str, Plan]) -> dict[Slice, Tensor]:
        """The slices [c, s, s] that the plans need, as far as they can be decoded."""
        needed: dict[int, list[int]] = {}
        for made in plans.values():
            for part in dict.fromkeys(p for picture in made.pictures for p in picture.slices):
                if self.items[part.file].refusal is None:
                    needed.setdefault(part.file, []).append(part.frame)
        finished: dict[Slice, Tensor] = {}
        batch: list[tuple[Slice, NDArray[np.float32]]] = []
        for found in self._decoded(needed):
            batch.append(found)
            if len(batch) == _BATCH:
                finished |= self._finish(batch)
                batch = []
        return finished | self._finish(batch)

    def _decoded(self, needed: Mapping[int, list[int]]) -> Iterator[tuple[Slice, NDArray[np.float32]]]:
        early = [i for i in needed if self.items[i].early]
        for index in early:
            yield from ((Slice(index, frame), self.items[index].early.pop(frame)) for frame in needed[index])
        files = [i for i in needed if self.items[i].source is not None]
        tasks = (
            Task(
                self._source(i),
                pixels=True,
                text=self._terms.text_check and self._kind(i) in CHECKED_KINDS,
                frames=tuple(needed[i]),
            )
            for i in files
        )
        for place, answer in self._pool.run(tasks):
            index = files[place]
            if answer.text:
                self.items[index].refuse(Refusal.TEXT)
            elif self.items[index].hear(answer):
                pairs = zip(needed[index], answer.images, strict=True)
                yield from ((Slice(index, frame), image) for frame, image in pairs)

    def _finish(self, batch: list[tuple[Slice, NDArray[np.float32]]]) -> dict[Slice, Tensor]:
        """To [c, s, s] in [-1, 1], with one channel where several slices become the channels."""
        if not batch:
            return {}
        data = self._data.model_copy(update={"channels": 1}) if self._data.stack > 1 else self._data
        images = (
            [self._spaced(part, image) for part, image in batch] if data.spacing else [i for _, i in batch]
        )
        prepared = prepare_each(images, len(batch), data, (0, 1))
        return {part: image for (part, _), image in zip(batch, prepared, strict=True)}

    def _spaced(self, part: Slice, image: NDArray[np.float32]) -> NDArray[np.float32]:
        header = self.items[part.file].header
        frames = header.frames if header else ()
        spacing = next(frame.spacing for frame in frames if frame.frame == part.frame)
        return at_spacing(image, (spacing[0], spacing[1]), self._data)

    def result(self, plans: Mapping[str, Plan], finished: Mapping[Slice, Tensor]) -> Ingested:
        """All pictures whose slices are there, in the order of patients, series and positions."""
        taken = [
            picture
            for made in plans.values()
            for picture in made.pictures
            if all(p in finished and self.items[p.file].refusal is None for p in picture.slices)
        ]
        data = self._data
        images = torch.empty(len(taken), *data.image_shape)
        for i, picture in enumerate(taken):
            images[i] = torch.cat([_blended(blend, finished) for blend in picture.channels])
        centers = [self.items[picture.center.file] for picture in taken]
        outcomes = (item.outcome() for item in self.items)
        return Ingested(
            images=images,
            labels=tuple(item.label for item in centers),
            patients=tuple(item.patient for item in centers),
            named=tuple(item.named for item in centers),
            files=tuple(item.key for item in centers),
            report=ReportCard.of(outcomes, text_checked=self._terms.text_check),
        )


def _blended(blend: tuple[tuple[Slice, float], ...], finished: Mapping[Slice, Tensor]) -> Tensor:
    first, *rest = (finished[part] * weight if weight != 1 else finished[part] for part, weight in blend)
    return first + rest[0] if rest else first


def _chunks(sources: Iterable[tuple[str, Source]]) -> Iterator[list[tuple[str, Source]]]:
    """So many files, or as many as make so many bytes in memory."""
    chunk: list[tuple[str, Source]] = []
    size = 0
    for name, source in sources:
        chunk.append((name, source))
        size += len(source) if isinstance(source, bytes) else 0
        if len(chunk) >= _FILES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
