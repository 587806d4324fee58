"""Read the body of Orb's answer to one request, up to a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import requests

from django_orb.exceptions import OrbResponseError, OrbResponseTooLargeError

from .deadline import seconds_left

MAX_BODY_BYTES = 128 * 1024 * 1024
# The most that is read of an error's body.
MAX_ERROR_BYTES = 1024 * 1024
# Large enough for most pages to come in one piece.
PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    response: requests.Response
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        return _is_success(self.response)

    @classmethod
    def read(cls, name: str, response: requests.Response) -> Answer:
        """
        Read the body of a response that was requested as a stream.

        Raises:
            OrbResponseTooLargeError: a success is larger than `MAX_BODY_BYTES`.
            OrbResponseError: a success could not be unpacked.
        """
        try:
            if _is_success(response):
                return cls(response, _read(name, response))
            body = _read_error(name, response)
        except BaseException:
            response.close()
            raise
        # Code that catches the error may read the response's body.
        response._content = body
        response._content_consumed = True  # type: ignore[attr-defined]
        return cls(response, body)


def _is_success(response: requests.Response) -> bool:
    return 200 <= response.status_code < 300


def _read(name: str, response: requests.Response) -> bytes:
    pieces, size = [], 0
    if (_announced(response) or 0) > MAX_BODY_BYTES:
        raise _too_large(name)
    for piece in _unpacked_pieces(name, response):
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise _too_large(name)
        pieces.append(piece)
    return b"".join(pieces)


def _read_error(name: str, response: requests.Response) -> bytes:
    """Read what can be read of an error's body; the status alone would be enough."""
    body = bytearray()
    try:
        for piece in _unpacked_pieces(name, response):
            body += piece
            if len(body) > MAX_ERROR_BYTES:
                response.close()
                break
    except OrbResponseError:
        response.close()
    return bytes(body[:MAX_ERROR_BYTES])


def _unpacked_pieces(name: str, response: requests.Response) -> Iterator[bytes]:
    # urllib3 must not unpack it: until 2.6 it did so without a limit.
    amount = min(_announced(response) or PIECE_BYTES, PIECE_BYTES)
    pieces = response.raw.stream(amount, decode_content=False)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        pieces = _unpack(name, encoding, pieces)
    for piece in pieces:
        # A session of the caller's own does not look at the deadline while it reads.
        seconds_left()
        yield piece


def _announced(response: requests.Response) -> int | None:
    length: int | None = response.raw.length_remaining
    return length


def _unpack(name: str, encoding: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    problem = f"Orb's answer to {name} could not be unpacked"
    if encoding not in ("gzip", "x-gzip"):
        raise OrbResponseError(f"{problem}: its encoding is not gzip.")
    unpacker, is_empty = _new_unpacker(), True
    try:
        for piece in pieces:
            rest, is_empty = piece, False
            while rest:
                # A gzip file may have several members (RFC 1952, section 2.2).
                if unpacker.eof:
                    unpacker = _new_unpacker()
                yield unpacker.decompress(rest, PIECE_BYTES)
                rest = unpacker.unconsumed_tail or unpacker.unused_data
        # The rest is usually empty, and joining it to a page would copy the page.
        if last := unpacker.flush():
            yield last
    except zlib.error as err:
        raise OrbResponseError(f"{problem}: {err}") from err
    # An answer without a body may have the header, too.
    if not unpacker.eof and not is_empty:
        raise OrbResponseError(f"{problem}: it broke off.")


def _new_unpacker() -> zlib._Decompress:
    # 16 more than the size of the window means gzip's header and checksum.
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _too_large(name: str) -> OrbResponseTooLargeError:
    return OrbResponseTooLargeError(
        f"Orb's answer to {name} is larger than {MAX_BODY_BYTES} bytes."
    )
