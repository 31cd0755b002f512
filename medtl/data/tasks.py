"""A task: findings that are learned together and share a head of the network."""

from dataclasses import dataclass

MAIN = "main"
"""The name of the only task where nobody names any."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Findings with a head of their own.

    Args:
        name: what reports call it.
        findings: in the order of the head's outputs.
        exclusive: whether exactly one of them holds for each scan (softmax), or each for itself (sigmoid).
    """

    name: str
    findings: tuple[str, ...]
    exclusive: bool
