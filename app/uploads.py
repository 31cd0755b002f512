"""What is looked at before Gradio sees an upload: how large it is, and by its first bytes what each file is."""

import tempfile
from collections.abc import Awaitable, Callable
from typing import IO, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from medtl.data.kinds import HEAD_BYTES, kind_of
from medtl.errors import ScanError

LARGEST_UPLOAD_BYTES = 512 * 2**20
"""All files of an upload together."""
MOST_FILES = 5000
FOR_THE_PAGE = ("empty", "text", "archive")
"""Codes that are let through: a zip may hold a series, and why the others are no scans is said on the page."""
CHUNK_BYTES = 2**20

Receive = Callable[[], Awaitable[dict[str, Any]]]


class UploadRefusedError(Exception):
    """An upload that is not handed on.

    Args:
        status: 400, 413 or 415.
        message: for the person who sent it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def checked(
    receive: Receive, *, content_type: str, announced: int = 0, most_bytes: int = LARGEST_UPLOAD_BYTES
) -> Receive:
    """Take in a whole upload, look at it, and give it on as it was.

    It waits in a file without a name, of which nothing is left whatever happens.

    Args:
        receive: where the request's body comes from (ASGI).
        content_type, announced: the request's headers; 0 where it does not say how long it is.
        most_bytes: how long the body may be.

    Returns:
        A `receive` that hands out the same body.

    Raises:
        UploadRefusedError: too large, not a form with files, or a file that is no scan.
    """
    body: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed when all of it was handed out
    size, more = 0, True
    try:
        files = _Files(content_type)
        if announced > most_bytes:
            raise _too_large(most_bytes)
        while more:
            message = await receive()
            part = message.get("body", b"")
            size, more = size + len(part), message.get("more_body", False)
            if message["type"] != "http.request":
                raise UploadRefusedError(400, "the upload was broken off")
            if size > most_bytes:
                raise _too_large(most_bytes)
            body.write(part)
            files.look_at(part)
        files.end()
        body.seek(0)
    except BaseException as problem:
        body.close()
        # A browser reads an answer only when it has sent everything.
        while isinstance(problem, UploadRefusedError) and more and size <= 2 * most_bytes:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        raise
    left = size

    async def again() -> dict[str, Any]:
        nonlocal left
        if body.closed:
            return await receive()
        part = body.read(CHUNK_BYTES)
        left -= len(part)
        if left <= 0:
            body.close()
        return {"type": "http.request", "body": part, "more_body": left > 0}

    return again


def _too_large(most_bytes: int) -> UploadRefusedError:
    return UploadRefusedError(413, f"the upload is larger than {most_bytes / 2**20:.0f} MB; open fewer files at once")


class _Files:
    """Follows a multipart body (RFC 7578) and refuses it at the first file that is no scan."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise UploadRefusedError(400, "this is not a form with files")
        self._field, self._value, self._count = b"", b"", 0
        self._name, self._head = "", b""
        self._decided, self._complete = True, False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_part_data": self._on_data,
                    "on_part_end": self._decide,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as problem:
            raise UploadRefusedError(400, f"this is not a form with files ({problem})") from None

    def look_at(self, part: bytes) -> None:
        try:
            self._parser.write(part)
        except FormParserError as problem:
            raise UploadRefusedError(400, f"this is not a form with files ({problem})") from None

    def end(self) -> None:
        if not self._complete:
            raise UploadRefusedError(400, "the upload was broken off")

    def _on_end(self) -> None:
        self._complete = True

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_FILES:
            raise UploadRefusedError(413, f"more than {MOST_FILES:,} files; open one series at a time")
        self._field, self._value, self._name, self._head, self._decided = b"", b"", "", b"", False

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"filename", b"").decode("utf-8", "replace")
        self._field, self._value = b"", b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._decided:
            return
        self._head += data[start : min(end, start + HEAD_BYTES - len(self._head))]
        if len(self._head) == HEAD_BYTES:
            self._decide()

    def _decide(self) -> None:
        if self._decided:
            return
        self._decided = True
        try:
            kind_of(self._head, name=self._name)
        except ScanError as problem:
            if problem.code not in FOR_THE_PAGE:
                raise UploadRefusedError(415, f"{self._name} {problem.message}") from None
