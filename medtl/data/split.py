"""Which part of the data a patient belongs to, decided by a hash of the patient's id alone."""

import hashlib

PARTS = ("train", "val", "test")
TRAIN_SHARE, VAL_SHARE = 0.7, 0.1


def split_of(patient_id: str, seed: int) -> str:
    """The part of one patient: 70 % train, 10 % val, 20 % test.

    A patient keeps the part when other patients come or go, so added scans cannot leak between parts.
    """
    digest = hashlib.sha256(f"{seed}/{patient_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < TRAIN_SHARE:
        return "train"
    return "val" if place < TRAIN_SHARE + VAL_SHARE else "test"
