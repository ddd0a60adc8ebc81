"""The closed list of why a file is refused, and of what is repaired in one that is read.

The numbers are those of the table of bad input in docs/dicom.md, which is tested against this file.
"""

from enum import StrEnum

from medgan_core.errors import DataError


class Refusal(StrEnum):
    """Why a file, or an image of it, is not taken."""

    EMPTY = "empty"
    NOT_DICOM = "not_dicom"
    UNREADABLE = "unreadable"
    DICOMDIR = "dicomdir"
    DAMAGED_HEADER = "damaged_header"
    NO_SYNTAX = "no_syntax"
    NO_DECODER = "no_decoder"
    SOP_CLASS = "sop_class"
    NO_PIXELS = "no_pixels"
    SYNTHETIC = "synthetic"
    NO_PATIENT = "no_patient"
    COHORT = "cohort"
    NO_LABEL = "no_label"
    LOCALIZER = "localizer"
    FRAMES = "frames"
    PHOTOMETRIC = "photometric"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    SHORT_PIXELS = "short_pixels"
    LONG_PIXELS = "long_pixels"
    DAMAGED_PIXELS = "damaged_pixels"
    BITS = "bits"
    NO_HOUNSFIELD = "no_hounsfield"
    NOT_FINITE = "not_finite"
    NO_SPACING = "no_spacing"
    UNEVEN = "uneven"
    NO_NEIGHBOURS = "no_neighbours"
    UID_CONFLICT = "uid_conflict"
    DUPLICATE = "duplicate"
    TEXT = "text"
    TEXT_UNCHECKED = "text_unchecked"
    CAP = "cap"
    TIMEOUT = "timeout"
    CRASH = "crash"


class Repair(StrEnum):
    """What was put right, or could not be told, in a file that is read."""

    NO_META = "no_meta"
    NO_SLOPE = "no_slope"
    NO_SPACING = "spacing_unknown"
    NO_WINDOW = "no_window"
    ORDER = "order"
    UNEVEN = "uneven_slices"
    OVERLAY = "overlay"
    PADDING = "padding"


REFUSED: dict[Refusal, tuple[str, tuple[int, ...]]] = {
    Refusal.EMPTY: ("the file is empty", (3,)),
    Refusal.NOT_DICOM: ("no DICOM file", (4,)),
    Refusal.UNREADABLE: ("the file cannot be opened", ()),
    Refusal.DICOMDIR: ("a DICOMDIR: an index, no image", (7,)),
    Refusal.DAMAGED_HEADER: ("the header is cut off or damaged", (2, 14)),
    Refusal.NO_SYNTAX: ("the transfer syntax is missing or unknown", (14,)),
    Refusal.NO_DECODER: ("compressed in a way for which no decoder is installed", ()),
    Refusal.SOP_CLASS: ("no image of a class that is read (reports, plans, doses, segmentations)", (6, 23)),
    Refusal.NO_PIXELS: ("no PixelData, or cut off before its end", (1, 6)),
    Refusal.SYNTHETIC: ("marked SyntheticData YES: no training data", (22,)),
    Refusal.NO_PATIENT: ("no PatientID: the stated ε would be false", ()),
    Refusal.COHORT: ("outside of the cohort", ()),
    Refusal.NO_LABEL: ("no label", ()),
    Refusal.LOCALIZER: ("a localizer", (19,)),
    Refusal.FRAMES: ("several frames, and the study's frame policy is refuse", (15,)),
    Refusal.PHOTOMETRIC: ("a photometric interpretation that cannot be converted", (16,)),
    Refusal.TOO_SMALL: ("fewer pixels than 8×8", ()),
    Refusal.TOO_LARGE: ("a frame that takes more memory than the limit", (13,)),
    Refusal.SHORT_PIXELS: ("fewer pixel bytes than rows, columns and frames need", (1, 13)),
    Refusal.LONG_PIXELS: ("more pixel bytes than rows, columns and frames need", (13,)),
    Refusal.DAMAGED_PIXELS: ("the pixels cannot be decoded", (1, 13)),
    Refusal.BITS: ("values outside of BitsStored", (12,)),
    Refusal.NO_HOUNSFIELD: ("CT without RescaleIntercept: its values are not in HU", (11,)),
    Refusal.NOT_FINITE: ("values that are no numbers", ()),
    Refusal.NO_SPACING: ("no pixel spacing, which the study needs", (8,)),
    Refusal.UNEVEN: ("slices with gaps or of one position, where the study needs a volume", (20,)),
    Refusal.NO_NEIGHBOURS: ("no slice on both sides, where the study takes stacks", ()),
    Refusal.UID_CONFLICT: ("one SOPInstanceUID for different pixels of one patient", (17,)),
    Refusal.DUPLICATE: ("a copy of an image that is read already", (17,)),
    Refusal.TEXT: ("text in the pixels, or the header says so", (21,)),
    Refusal.TEXT_UNCHECKED: ("text could not be looked for", (21,)),
    Refusal.CAP: ("beyond the study's number of images of a patient", ()),
    Refusal.TIMEOUT: ("decoding took too long", ()),
    Refusal.CRASH: ("the decoder crashed", ()),
}
"""Each reason in words, and the rows of the table of bad input that it answers."""

EXPECTED = (Refusal.CAP, Refusal.DUPLICATE, Refusal.LOCALIZER, Refusal.COHORT, Refusal.DICOMDIR)
"""Reasons that are no defect of a file: it is left out, and not in the quarantine."""

REPAIRED: dict[Repair, tuple[str, tuple[int, ...]]] = {
    Repair.NO_META: ("no preamble or file meta: read with the syntax that its elements show", (5,)),
    Repair.NO_SLOPE: ("an empty RescaleSlope: taken as 1", (11,)),
    Repair.NO_SPACING: ("pixel spacing missing or zero: not used", (8,)),
    Repair.NO_WINDOW: ("a window that is not one: the image's own range taken", ()),
    Repair.ORDER: ("InstanceNumber missing or repeated: sorted by position along the normal", (9,)),
    Repair.UNEVEN: ("a series with gaps or slices of one position: read as single slices", (20,)),
    Repair.OVERLAY: ("overlays or curves beside the pixels: left out", (21,)),
    Repair.PADDING: ("some bytes after the last pixel: left out", ()),
}


class QuarantineError(DataError):
    """One file that is not taken; `reason` is from the closed list, `detail` says more without PHI."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"is refused ({reason}): {REFUSED[reason][0]}{f' ({detail})' if detail else ''}")
