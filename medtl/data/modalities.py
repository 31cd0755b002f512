"""Codes of modalities."""

from medtl.config import closest
from medtl.errors import ConfigError

MODALITIES = (
    "AR", "BI", "BMD", "CR", "CT", "DG", "DMS", "DX", "ES", "GM", "IO", "IVOCT", "IVUS", "LEN", "LS", "MG", "MR", "NM",
    "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PT", "PX", "RF", "RG", "SM", "TG",
    "US", "XA", "XC",
)  # fmt: skip
"""Of images, DICOM PS3.3 C.7.3.1.1.1."""


def modality_of(said: str) -> str:
    """The code that is meant, in capitals.

    Raises:
        ConfigError: there is none of that name.
    """
    code = said.strip().upper()
    if code not in MODALITIES:
        raise ConfigError(f"modality: '{said}' is no DICOM code of a modality{closest(code, MODALITIES)}")
    return code
