"""What in the server belongs to whom: open pages, and files that were uploaded."""

from collections import OrderedDict
from typing import Any

from medtl.review.users import User

REMEMBERED = 10_000
"""Pages, and files, whose owner is known; beyond it the oldest are forgotten, and then belong to nobody."""


class Owners:
    """Who opened which page (Gradio's session hash), and who uploaded which file.

    A hash that nobody has yet belongs to whoever shows it first; browsers draw it at random when a page is loaded.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._files: OrderedDict[str, set[str]] = OrderedDict()

    def page_is_of(self, user: User, session_hash: str) -> bool:
        """Whether this page is this user's."""
        owner = self._pages.setdefault(session_hash, user.name)
        _bound(self._pages)
        return owner == user.name

    def uploaded(self, user: User, paths: list[str]) -> None:
        """Note whose files these are; the same bytes may have been uploaded by several."""
        for path in paths:
            self._files.setdefault(path, set()).add(user.name)
        _bound(self._files)

    def files_are_of(self, user: User, data: Any) -> bool:
        """Whether all files that an event's data names, at any depth, are this user's."""
        if isinstance(data, dict):
            path = data.get("path")
            mine = not isinstance(path, str) or user.name in self._files.get(path, ())
            return mine and all(self.files_are_of(user, value) for value in data.values())
        return not isinstance(data, list) or all(self.files_are_of(user, value) for value in data)


def _bound(table: OrderedDict[str, Any]) -> None:
    while len(table) > REMEMBERED:
        table.popitem(last=False)
