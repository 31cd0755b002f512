"""What `torchrun` tells each process through its environment."""

import os


def count() -> int:
    """How many processes torchrun started in all; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def on_this_machine() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count()))
