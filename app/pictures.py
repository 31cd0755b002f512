"""Pictures of scans that browsers ask for by themselves: large ones would be slow inside of the page's answers."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app import panels
from app.auth import person
from app.viewer_html import Look
from app.windowing import Window

PATH = "/pictures/"
INLINE_BYTES = 300_000
"""Up to here a picture travels inside of the answer, as slices of volumes do: they change while one turns through."""
MOST_BYTES = 2**28
"""Pictures that are kept: about 180 radiographs of 2048 x 2048, three for each of the pages that are kept."""


@dataclass(frozen=True, kw_only=True)
class _Key:
    """What a picture depends on, and who may see it."""

    owner: str
    scan_id: str
    slice_name: str
    window: Window


class Pictures:
    """PNGs in memory, each for one user at an address that cannot be guessed; old ones give way to new ones."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, tuple[_Key, bytes]] = OrderedDict()
        self._names: dict[_Key, str] = {}
        self._lock = threading.Lock()
        self.route = Route(PATH + "{name}", self.answer)

    def source(self, owner: str, look: Look) -> str:
        """What an <img> shows: a data URI, or an address, the same again for the same look while it is kept.

        Args:
            owner: the user who may see it.
        """
        key = _Key(owner=owner, scan_id=look.scan.scan_id, slice_name=look.slice_name, window=look.window)
        with self._lock:
            if (known := self._names.get(key)) is not None:
                self._kept.move_to_end(known)
                return _address(known)
        png = look.png()
        if len(png) <= INLINE_BYTES:
            return panels.inline(png)
        name = secrets.token_urlsafe(32)
        with self._lock:
            name = self._names.setdefault(key, name)
            if name not in self._kept:
                self._kept[name] = key, png
                self._bytes += len(png)
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                _, (old, gone) = self._kept.popitem(last=False)
                del self._names[old]
                self._bytes -= len(gone)
        return _address(name)

    def answer(self, request: Request) -> Response:
        """A picture, for its owner; that it is not kept by the browser is for the gate's headers to say."""
        user = person(request.scope)
        with self._lock:
            key, png = self._kept.get(request.path_params["name"], (None, b""))
            if key is None:
                return PlainTextResponse("this picture is no longer kept; open the case again", 404)
            if user is None or key.owner != user.name:
                return PlainTextResponse("this belongs to another user", 403)
            self._kept.move_to_end(request.path_params["name"])
        return Response(png, media_type="image/png")


def _address(name: str) -> str:
    """Relative, so that a proxy's prefix stays."""
    return PATH.removeprefix("/") + name
