"""New ids for patients, studies and series: the same one every time, on this computer only.

A pseudonym is the HMAC-SHA256 (RFC 2104) of the id under a secret salt. Without the salt nobody can try all patient
numbers of a hospital and see which gives the pseudonym; whoever has both salt and data can.
"""

import hashlib
import hmac
import os
import re
import secrets
import uuid
from pathlib import Path

from medtl.errors import ConfigError

SALT_BYTES = 32
MOST_DAYS = 3650
_PREFIX = {"patient": "p_", "study": "s_", "series": "e_"}


def salt_file() -> Path:
    """`$MEDTL_SALT_FILE`, else `medtl/salt` below `$XDG_CONFIG_HOME` or `~/.config`: never beside the data."""
    if named := os.environ.get("MEDTL_SALT_FILE"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "medtl" / "salt"


def salt() -> bytes:
    """The 32 secret bytes of this user, made on first use and kept in a file that only the owner reads (mode 0600).

    Raises:
        ConfigError: the file cannot be read or made, or does not hold 32 bytes.
    """
    path = salt_file()
    try:
        if not path.exists():
            _make(path)
        found = path.read_bytes()
    except OSError as problem:
        raise ConfigError(
            f"{path}: the salt of the pseudonyms cannot be read or made ({problem.strerror or problem}); "
            "make it readable, or name another file in MEDTL_SALT_FILE"
        ) from None
    if len(found) != SALT_BYTES:
        raise ConfigError(
            f"{path}: the salt of the pseudonyms has {len(found)} bytes, expected {SALT_BYTES}; bring back a copy "
            "of it, or remove the file for a new salt (every pseudonym then changes)"
        )
    return found


def _make(path: Path) -> None:
    """Write a new salt whole; where another process was first, its salt stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SALT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)


def pseudonym(kind: str, text: str, *, key: bytes) -> str:
    """The new id of an id, such as `p_0123456789abcdef`.

    Args:
        kind: "patient" (`p_`), "study" (`s_`) or "series" (`e_`).
        text: the original id; white space around it does not count (PS3.5 6.2).
        key: what `salt` gives.
    """
    return _PREFIX[kind] + _digest(kind, text, key).hex()[:16]


def new_uid(text: str, *, key: bytes) -> str:
    """The new UID of a UID: a UUID's number below 2.25 (PS3.5 B.2).

    Args:
        text: the original UID.
        key: what `salt` gives.
    """
    return f"2.25.{uuid.UUID(bytes=_digest('uid', text, key)[:16], version=4).int}"


def is_pseudonym(text: str) -> bool:
    """Whether `text` looks like what `pseudonym` gives."""
    return re.fullmatch(r"[pse]_[0-9a-f]{16}", text) is not None


def as_patient(cell: str, *, key: bytes) -> str:
    """The pseudonym of a patient in a labels file, which may hold pseudonyms already."""
    return cell if is_pseudonym(cell) else pseudonym("patient", cell, key=key)


def day_offset(patient: str, *, key: bytes) -> int:
    """By how many days (1 to 3650) the dates of a patient are moved: the same for all of them, so intervals stay.

    Args:
        patient: the original patient id.
        key: what `salt` gives.
    """
    return 1 + int.from_bytes(_digest("days", patient, key)) % MOST_DAYS


def _digest(kind: str, text: str, key: bytes) -> bytes:
    return hmac.digest(key, f"{kind}/{text.strip()}".encode(), hashlib.sha256)
