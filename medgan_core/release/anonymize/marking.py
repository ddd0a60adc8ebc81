"""What a de-identified file says of itself: only what was done to it. PS3.3 C.7.1.1 and PS3.15 annex E."""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from medgan_core.release.anonymize.codes import code_item
from medgan_core.release.anonymize.table import EDITION

IMPLEMENTATION_UID = "2.25.13049414473940410462845160971013359272"
IMPLEMENTATION = "MEDGAN_ANON"
_PROFILE = (
    "BasicApplicationConfidentialityProfile",
    "CleanGraphicsOption",
    "RetainLongitudinalTemporalInformationModifiedDatesOption",
    "RetainPatientCharacteristicsOption",
)
_CLEAN_PIXELS = "CleanPixelDataOption"
METHOD = (
    f"MedGAN: PS3.15 {EDITION} Basic Profile; graphics removed",
    "Dates moved by one secret distance a patient",
    "Unlisted attributes removed; identifiers are keyed hashes",
    "Pixels are real: internal use only",
)


def mark_deidentified(made: Dataset, searched_for_text: bool, blanked: int) -> None:
    """Set (0012,0062) to (0012,0064), (0028,0303) and what is known of burned-in text."""
    made.PatientIdentityRemoved = "YES"
    looked = f"Text looked for in its pixels: {blanked} places blanked" if searched_for_text else ""
    made.DeidentificationMethod = [*METHOD, *([looked] if looked else ["No text looked for in its pixels"])]
    names = (*_PROFILE, _CLEAN_PIXELS) if searched_for_text else _PROFILE
    made.DeidentificationMethodCodeSequence = [code_item(getattr(codes.DCM, name)) for name in names]
    made.LongitudinalTemporalInformationModified = "MODIFIED"
    if searched_for_text:
        made.BurnedInAnnotation = "NO"


def new_meta(made: Dataset) -> None:
    """A file meta group of nothing but the new data set's own identifiers; the preamble is zeros."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION
    made.file_meta = meta
    made.preamble = b"\0" * 128
