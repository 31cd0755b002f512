"""Which part a patient belongs to: train, val or test."""

import hashlib

SPLITS = ("train", "val", "test")
TRAIN, VAL = 0.70, 0.10


def split_of(patient_id: str, seed: int) -> str:
    """The part of a patient: 70 % train, 10 % val, 20 % test.

    It depends on nothing but the patient and the seed, so adding scans later moves nobody from one part to another.
    """
    digest = hashlib.sha256(f"{seed}/{patient_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < TRAIN:
        return "train"
    return "val" if place < TRAIN + VAL else "test"
