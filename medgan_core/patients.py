"""What stands for a patient where no name may be kept."""

import hmac
from hashlib import sha256


class Pseudonym(str):
    """HMAC-SHA256 of a patient's key under a site's own key, in hex; hashing it again changes nothing."""

    __slots__ = ()

    @classmethod
    def of(cls, secret: bytes, patient: str) -> "Pseudonym":
        """That of a patient; of a pseudonym, itself."""
        if isinstance(patient, cls):
            return patient
        return cls(hmac.new(secret, patient.encode("utf-8", "surrogatepass"), sha256).hexdigest())


def patient_key(identifier: str, issuer: str = "") -> str:
    """A patient's key from PatientID and IssuerOfPatientID, written as HL7 does: `ID` or `ID^^^ISSUER`."""
    return f"{identifier}^^^{issuer}" if issuer else identifier
