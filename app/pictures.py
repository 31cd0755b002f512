"""Pictures of scans that browsers ask for by themselves: large ones would be slow inside of the page's answers."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

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
    """What a picture depends on."""

    scan_id: str
    slice_name: str
    window: Window


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A picture, the name in its address, and the users it was drawn for."""

    name: str
    png: bytes
    owners: set[str] = field(default_factory=set)


class Pictures:
    """PNGs in memory, each drawn once, at an address that cannot be guessed; old ones give way to new ones."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[_Key, _Picture] = OrderedDict()
        self._keys: dict[str, _Key] = {}
        self._lock = threading.Lock()
        self.route = Route(PATH + "{name}", self.answer)

    def source(self, owner: str, look: Look) -> str:
        """What an <img> shows: a data URI, or an address, the same again for the same look while it is kept.

        Args:
            owner: a user who may see it.
        """
        key = _Key(scan_id=look.scan.scan_id, slice_name=look.slice_name, window=look.window)
        with self._lock:
            known = self._kept.get(key)
        picture = known or _Picture(name=secrets.token_urlsafe(32), png=look.png())
        with self._lock:
            if key not in self._kept:
                self._kept[key], self._keys[picture.name] = picture, key
                self._bytes += len(picture.png)
            picture = self._kept[key]
            picture.owners.add(owner)
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._bytes > self._most_bytes:
                _, gone = self._kept.popitem(last=False)
                del self._keys[gone.name]
                self._bytes -= len(gone.png)
        if len(picture.png) <= INLINE_BYTES:
            return panels.inline(picture.png)
        return PATH.removeprefix("/") + picture.name  # relative, so that a proxy's prefix stays

    def answer(self, request: Request) -> Response:
        """A picture, for who may see it; that it is not kept by the browser is for the gate's headers to say."""
        user = person(request.scope)
        with self._lock:
            key = self._keys.get(request.path_params["name"])
            if key is None:
                return PlainTextResponse("this picture is no longer kept; open the case again", 404)
            picture = self._kept[key]
            if user is None or user.name not in picture.owners:
                return PlainTextResponse("this belongs to another user", 403)
            self._kept.move_to_end(key)
        return Response(picture.png, media_type="image/png")
