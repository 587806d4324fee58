"""
Idempotency keys of POST requests.

Source: https://docs.withorb.com/api-reference (idempotency): 48 hours, 64
characters, 409 for another body or while the first is running.
Own choices: a key holds for the whole account; method, path and body are compared;
the answer of an operation is kept, even if it is a 400, but not an error that
prevented it from running (401, 409, 429, 5xx).
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from django_orb.testing.account import Clock, conflict, invalid

KEPT_SECONDS = 48 * 3600
MAX_LENGTH = 64
HEADER = "Idempotency-Key"


@dataclass
class _Kept:
    fingerprint: str
    since: int
    response: Response | None = None

    def dump(self, key: str) -> dict[str, Any]:
        answer = self.response or Response()
        return {
            "key": key,
            "fingerprint": self.fingerprint,
            "since": self.since,
            "status": answer.status_code,
            "headers": [*answer.headers],
            "body": answer.get_data(as_text=True),
        }

    @classmethod
    def load(cls, fields: dict[str, Any]) -> _Kept:
        answer = Response(
            fields["body"],
            status=fields["status"],
            headers=[(name, value) for name, value in fields["headers"]],
        )
        return cls(fields["fingerprint"], fields["since"], answer)


class IdempotencyKeys:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def begin(self, request: Request) -> Response | None:
        """
        Return the kept answer, or None if the request must be executed.

        Raises:
            Problem: 400 for a key that is too long, 409 for a conflict.
        """
        key = key_of(request)
        if key is None:
            return None
        if len(key) > MAX_LENGTH:
            raise invalid(f"{HEADER}: longer than {MAX_LENGTH} characters")
        with self._lock:
            kept = self._alive(key)
            if kept is None:
                self._kept[key] = _Kept(_fingerprint(request), self._clock.timestamp())
                return None
        return _replayed(kept, request)

    def finish(self, request: Request, response: Response) -> None:
        key = key_of(request)
        if key is None:
            return
        kept = _Kept(_fingerprint(request), self._clock.timestamp(), response)
        with self._lock:
            self._kept[key] = kept

    def forget(self, request: Request) -> None:
        """Free the key of a request that was not executed."""
        with self._lock:
            self._kept.pop(key_of(request) or "", None)

    def _alive(self, key: str) -> _Kept | None:
        kept = self._kept.get(key)
        if kept and kept.since + KEPT_SECONDS <= self._clock.timestamp():
            del self._kept[key]
            return None
        return kept

    # Snapshots

    def dump(self) -> list[dict[str, Any]]:
        with self._lock:
            finished = [(k, v) for k, v in self._kept.items() if v.response is not None]
        return [kept.dump(key) for key, kept in finished]

    def load(self, dumped: list[dict[str, Any]]) -> None:
        with self._lock:
            for fields in dumped:
                self._kept[fields["key"]] = _Kept.load(fields)


def key_of(request: Request) -> str | None:
    # Orb ignores the header on other methods; its SDK sends it with all but GET.
    if request.method not in {"POST", "PATCH"}:
        return None
    return request.headers.get(HEADER)


def _fingerprint(request: Request) -> str:
    text = f"{request.method} {request.path}\n".encode() + request.get_data()
    return hashlib.sha256(text).hexdigest()


def _replayed(kept: _Kept, request: Request) -> Response:
    if kept.fingerprint != _fingerprint(request):
        raise conflict("This idempotency key was used with another request.")
    if kept.response is None:
        raise conflict("A request with this idempotency key is being processed.")
    headers = [*kept.response.headers, ("Idempotent-Replayed", "true")]
    return Response(
        kept.response.get_data(), status=kept.response.status_code, headers=headers
    )
