"""How the page's events run: what waits for what."""

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ONE_AT_A_TIME: dict[str, Any] = QUIET | {"concurrency_id": "case", "concurrency_limit": 1}
"""Whatever reads or draws a scan, so that readers do not fight over the processor and answers keep their order."""
DRAWS: dict[str, Any] = ONE_AT_A_TIME | {"trigger_mode": "always_last"}
SAVES: dict[str, Any] = QUIET | {"concurrency_id": "store", "concurrency_limit": 1}
TEACHES: dict[str, Any] = QUIET | {"concurrency_id": "teach", "concurrency_limit": 4}
LISTS: dict[str, Any] = QUIET | {"concurrency_id": "lists", "concurrency_limit": 2}
