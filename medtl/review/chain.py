"""The hash chain over verdicts: each row's hash covers the row and the hash of the row before.

    hash = sha256(canonical JSON of the row without `hash`, but with `prev_hash`)

Canonical JSON: keys sorted, no spaces, ASCII, floats in Python's shortest form, which both databases give back exactly.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GENESIS = "0" * 64
"""What the first row follows."""
COLUMNS = (
    "id", "case_id", "scan_id", "sha256", "bundle_id", "finding", "probability", "threshold", "decision", "verdict",
    "relabel", "region", "note", "bad_image", "verdict_first", "adjudicates", "seconds", "reader", "role", "supersedes",
    "token", "created_at", "prev_hash",
)  # fmt: skip
"""What is hashed. A later schema that adds columns to verdicts hashes rows made before as they were."""


def row_hash(row: Mapping[str, Any]) -> str:
    """The hash of a row, from its `COLUMNS`."""
    text = json.dumps({name: row[name] for name in COLUMNS}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
