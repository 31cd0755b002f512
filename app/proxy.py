"""Where a request comes from: the peer, or, through a reverse proxy that is trusted, whom the proxy names.

Runs first. Behind it nothing looks at X-Forwarded-* headers any more, because there are none: what a trusted proxy
said has become the request's client, scheme and host, and what anybody else said is dropped.
"""

import ipaddress
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse

from app.auth import LOCAL
from medtl.errors import MedtlError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SAYS = (b"forwarded", b"x-real-ip", b"x-gradio-server")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Arrival:
    """ASGI middleware.

    Args:
        app: what comes next.
        root_path: the prefix under which the proxy shows the page, such as "/medtl"; the proxy may strip it or not.
        trusted: the proxy's address; None for no proxy.
        hosts: names by which browsers may call this server; empty for any. A foreign web page that points its own
            name at this address (DNS rebinding) is turned away by it. A trusted proxy checks names itself.
    """

    def __init__(self, app: Any, *, root_path: str, trusted: Network | None, hosts: tuple[str, ...]) -> None:
        self.app, self.root_path, self.trusted, self.hosts = app, root_path, trusted, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        said = {name: value.decode("latin-1") for name, value in headers.items() if _is_said(name)}
        kept = [(name, value) for name, value in scope["headers"] if not _is_said(name)]
        peer = _address(scope["client"][0] if scope.get("client") else "")
        scope = dict(scope) | {"headers": kept, LOCAL: peer is not None and peer.is_loopback and not said}
        if peer is not None and self.trusted is not None and peer in self.trusted:
            _believe(scope, said)
        elif self.hosts and _hostname(headers.get(b"host", b"").decode("latin-1")) not in self.hosts:
            await PlainTextResponse("this server is not called so", 400)(scope, receive, send)
            return
        if scope["path"] == self.root_path:
            await RedirectResponse(self.root_path + "/", 307)(scope, receive, send)
            return
        if not scope["path"].startswith(self.root_path + "/"):
            scope["path"] = self.root_path + scope["path"]
            if "raw_path" in scope:
                scope["raw_path"] = self.root_path.encode() + scope["raw_path"]
        scope["root_path"] = self.root_path
        await self.app(scope, receive, send)


def network(text: str) -> Network | None:
    """The address, or the network, of the trusted proxy; None for "".

    Raises:
        MedtlError: it is none.
    """
    try:
        return ipaddress.ip_network(text) if text else None
    except ValueError:
        raise MedtlError(
            f"--trusted-proxy {text}: is no address; expected one such as 127.0.0.1 or 10.1.0.0/16"
        ) from None


def prefix(text: str) -> str:
    """A path prefix as it is used: begins with a slash and does not end with one.

    Raises:
        MedtlError: it holds what does not stand in a path.
    """
    stripped = text.strip("/")
    if not all(
        part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in stripped.split("/") if stripped
    ):
        raise MedtlError(f"--root-path {text}: expected a path of letters, digits, -, _ and ., such as /medtl")
    return f"/{stripped}" if stripped else ""


def _believe(scope: dict[str, Any], said: dict[bytes, str]) -> None:
    """The trusted proxy names the client last in X-Forwarded-For; what stands before came from the client."""
    if said.get(b"x-forwarded-proto") in ("http", "https"):
        scope["scheme"] = said[b"x-forwarded-proto"]
    if host := said.get(b"x-forwarded-host"):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", host.encode("latin-1")), *others]
    if client := _address(said.get(b"x-forwarded-for", "").rpartition(",")[2].strip()):
        scope["client"] = (str(client), 0)


def _is_said(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in _SAYS


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _hostname(host: str) -> str:
    """Without the port; an IPv6 address without its brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
