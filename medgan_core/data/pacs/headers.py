"""The header of an object in memory, and the digest of its pixels; quietly, since values may be names."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import pydicom
from pydicom import Dataset, config

from medgan_core.data.places import DAMAGE
from medgan_core.errors import DataError

_TALKATIVE = ("pydicom", "highdicom", "dicomweb_client", "retrying", "urllib3", "pynetdicom")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' warnings and log lines, which quote what they find in headers.

    For all threads of the process; the outermost block has to be that of the thread which starts the others.
    """
    settings, loggers = config.settings, [logging.getLogger(name) for name in _TALKATIVE]
    mode, levels = settings.reading_validation_mode, [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings.reading_validation_mode = config.IGNORE
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            settings.reading_validation_mode = mode
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def header_of(raw: bytes) -> Dataset:
    """Everything before the pixels. DataError for what is no DICOM."""
    return _read(raw, pixels=False)


def digest_of(raw: bytes) -> str:
    """SHA-256 over transfer syntax and pixels as they came; of the whole file where it has none."""
    try:
        dataset = _read(raw, pixels=True)
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        found = next((dataset.get_item(key) for key in _PIXELS if key in dataset), None)
    except (DataError, *DAMAGE):
        found, syntax = None, ""
    pixels = raw if found is None or not isinstance(found.value, bytes) else found.value
    return sha256(syntax.encode() + b"\n" + pixels).hexdigest()


def _read(raw: bytes, *, pixels: bool) -> Dataset:
    try:
        dataset = pydicom.dcmread(io.BytesIO(raw), force=True, stop_before_pixels=not pixels)
        if not str(dataset.get("SOPInstanceUID", "")).strip():
            raise DataError("no DICOM object: it has no SOP Instance UID")
    except DAMAGE as error:
        raise DataError(f"damaged or no DICOM object ({type(error).__name__})") from None
    return dataset
