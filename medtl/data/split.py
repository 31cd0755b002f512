"""Which part a patient belongs to: train, val or test."""

import hashlib

SPLITS = ("train", "val", "test")
TRAIN, VAL = 0.70, 0.10


def place_of(patient: str, seed: int) -> float:
    """Where a patient stands between 0 and 1.

    It depends on nothing but the patient and the seed, so adding scans later moves nobody from one part to another.

    Args:
        patient: the id as it stands in the header or the labels file, before it becomes a pseudonym: the same on
            every computer.
        seed: another one shuffles everybody.
    """
    digest = hashlib.sha256(f"{seed}/{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def part_at(place: float) -> str:
    """The part at a place: 70 % train, 10 % val, 20 % test."""
    if place < TRAIN:
        return "train"
    return "val" if place < TRAIN + VAL else "test"
