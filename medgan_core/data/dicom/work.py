"""One file's work, told in values that travel as JSON and raw arrays: header, pixels, text."""

import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite

from medgan_core.data.dicom.bare import bare
from medgan_core.data.dicom.header import Header, parse, read_header
from medgan_core.data.dicom.pixels import decode, shrink, to_unit
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.sources import Member, Sealed, Source, open_source
from medgan_core.data.dicom.text import has_text
from medgan_core.data.places import DAMAGE

LARGEST_HEADER = 1 << 20
"""Bytes of a header that is shown to the functions of a cohort."""
_LONGEST_VALUE = 1 << 12


@dataclass(frozen=True)
class Settings:
    """How files are read, the same for all of a pool.

    `side`: images are averaged to this many pixels a side where they are larger, 0 for native size.
    """

    window: str = "lung"
    frames: str = "refuse"
    side: int = 0

    def as_text(self) -> str:
        """JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> "Settings":
        """Back from `as_text`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Task:
    """What is asked of one file: its header, for the rules of a cohort all its attributes (`dataset`); of
    `frames` their pixels, hashes of their stored values (`digest`), and whether one of them shows text.

    With `bare`: nothing but a file of their pixels and numbers, under these UIDs of series and object.
    """

    source: Source
    header: bool = False
    dataset: bool = False
    pixels: bool = False
    digest: bool = False
    text: bool = False
    frames: tuple[int, ...] = ()
    bare: tuple[str, ...] = ()

    def as_message(self) -> tuple[bytes, bytes | None]:
        """JSON, and the file's bytes where it is no file on disk."""
        source, body = self.source, None
        if isinstance(source, bytes):
            place, body = None, source
        elif isinstance(source, Sealed):
            place, body = ["", str(source.path), source.key.hex() if source.key else ""], None
        else:
            place = [str(source.archive), source.name] if isinstance(source, Member) else [str(source)]
        asked = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}
        return json.dumps({"place": place, **asked}).encode("utf-8", "surrogateescape"), body

    @classmethod
    def of_message(cls, message: bytes, body: bytes | None) -> "Task":
        """Back from `as_message`."""
        asked = json.loads(message.decode("utf-8", "surrogateescape"))
        place = asked.pop("place")
        source: Source
        if place is None:
            source = body or b""
        elif len(place) == 3:
            source = Sealed(Path(place[1]), bytes.fromhex(place[2]) or None)
        else:
            source = Path(place[0]) if len(place) == 1 else Member(Path(place[0]), place[1])
        return cls(source, **{**asked, "frames": tuple(asked["frames"]), "bare": tuple(asked["bare"])})


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of a task; `refusal` ends it.

    `dataset` is a header, or a bare file; `images` are float32 [h, w] or [h, w, 3] in [0, 1].
    """

    refusal: Refusal | None = None
    detail: str = ""
    header: Header | None = None
    dataset: bytes = b""
    images: tuple[NDArray[np.float32], ...] = ()
    digests: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    text: bool = False

    def as_messages(self) -> list[bytes]:
        """JSON, then the dataset and each image as raw bytes."""
        said = {
            "refusal": self.refusal, "detail": self.detail, "digests": self.digests, "repairs": self.repairs,
            "text": self.text, "header": self.header and self.header.as_json(),
            "shapes": [image.shape for image in self.images],
        }  # fmt: skip
        raw = [np.ascontiguousarray(image).tobytes() for image in self.images]
        return [json.dumps(said).encode(), self.dataset, *raw]

    @classmethod
    def of_messages(cls, messages: list[bytes]) -> "Answer":
        """Back from `as_messages`."""
        said = json.loads(messages[0])
        shapes = said.pop("shapes")
        pairs = zip(messages[2:], shapes, strict=True)
        return cls(
            refusal=Refusal(said["refusal"]) if said["refusal"] else None,
            detail=said["detail"],
            header=Header.of_json(said["header"]) if said["header"] else None,
            dataset=messages[1],
            images=tuple(np.frombuffer(raw, np.float32).reshape(shape) for raw, shape in pairs),
            digests=tuple(said["digests"]),
            repairs=tuple(said["repairs"]),
            text=said["text"],
        )

    @staticmethod
    def more(first: bytes) -> int:
        """How many messages follow the first."""
        return 1 + len(json.loads(first)["shapes"])


def answer(task: Task, settings: Settings) -> Answer:
    """Do a task. Never raises for what a file holds."""
    try:
        return _answer(task, settings)
    except QuarantineError as refused:
        return Answer(refusal=refused.reason, detail=refused.detail)
    except MemoryError:
        return Answer(refusal=Refusal.TOO_LARGE, detail="memory")
    except Exception as error:  # whatever a parser or a decoder raises at bytes that mean it harm
        reason = Refusal.DAMAGED_PIXELS if task.frames else Refusal.DAMAGED_HEADER
        return Answer(refusal=reason, detail=type(error).__name__)


def _answer(task: Task, settings: Settings) -> Answer:
    if task.bare:
        return Answer(dataset=bare(task.source, task.frames, *task.bare))
    header = read_header(task.source, settings.frames) if task.header else None
    images, digests, repairs, text = [], [], set(header.repairs if header else ()), False
    for frame in decode(task.source, task.frames) if task.frames else ():
        text = text or (task.text and has_text(frame.shown()))
        if task.digest:
            digests.append(frame.digest())
        if task.pixels:
            pixels, found = to_unit(frame, settings.window)
            images.append(shrink(pixels, settings.side))
            repairs |= set(map(str, found))
    dataset = _attributes(task.source) if task.dataset else b""
    return Answer(
        header=header,
        dataset=dataset,
        images=tuple(images),
        digests=tuple(digests),
        repairs=tuple(sorted(repairs)),
        text=text,
    )


def _attributes(source: Source) -> bytes:
    """The header without private, long or binary values, written anew; for the rules of a cohort."""
    stream, _ = open_source(source)
    with stream:
        dataset, _ = parse(stream, None)
    try:
        kept = FileDataset("", {})
        for element in dataset:
            if not element.tag.is_private and len(str(element.value)) <= _LONGEST_VALUE:
                kept[element.tag] = element
        stream = io.BytesIO()
        dcmwrite(stream, kept, implicit_vr=False, little_endian=True)
    except DAMAGE as error:
        raise QuarantineError(Refusal.DAMAGED_HEADER, type(error).__name__) from None
    if stream.tell() > LARGEST_HEADER:
        raise QuarantineError(Refusal.TOO_LARGE, "the header")
    return stream.getvalue()
