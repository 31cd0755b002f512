"""What a header says that may be kept without naming anyone."""

from medtl.data.pseudonyms import pseudonym, salt
from medtl.data.scan import Header

OLDEST_YEARS = 90.0
"""Older people are so few that an age names them: all of them count as this old (HIPAA Safe Harbor)."""


def nameless(header: Header, *, key: bytes | None = None) -> dict[str, str | float | None]:
    """The patient as a pseudonym, and the facts of his scan; None where the header does not say.

    Args:
        key: the salt of the pseudonyms; None: this user's, which is read only where the header has a patient.

    Raises:
        ConfigError: the salt cannot be read or made.
    """
    patient = header.patient_id
    return {
        "patient_id": pseudonym("patient", patient, key=key or salt()) if patient else None,
        "age_years": None if header.age_years is None else min(header.age_years, OLDEST_YEARS),
        "sex": header.sex,
        "modality": header.modality,
        "view": header.view,
        "body_part": header.body_part,
    }
