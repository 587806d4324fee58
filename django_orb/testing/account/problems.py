"""Orb's errors, as https://docs.withorb.com/api-reference/error-responses says."""

from __future__ import annotations

from typing import Any

_BASE = "https://docs.withorb.com/reference/error-responses#"

# Titles by type, which begins with the status. They are our words if Orb's are not
# public.
_KINDS = {
    "400-request-validation-errors": "One or more fields in the request are not valid.",
    "400-constraint-violation": "The request conflicts with the state of the resource.",
    "400-duplicate-resource-creation": "A resource with this identifier exists.",
    "401-authentication-error": "The API key is missing or not valid.",
    "404-resource-not-found": "A specified resource was not found.",
    "404-url-not-found": "The requested URL was not found.",
    "404-feature-not-available": "This feature is not available for the account.",
    "409-resource-conflict": "The request conflicts with another request.",
    "413-request-too-large": "The request is too large.",
    "413-resource-too-large": "The resource is too large.",
    "429-too-many-requests": "Too many requests.",
    "500-internal-server-error": "An internal error occurred.",
}
_BY_STATUS = {400: "400-constraint-violation"} | {
    int(kind[:3]): kind for kind in reversed(_KINDS) if not kind.startswith("400")
}


class Problem(Exception):  # noqa: N818
    """One of Orb's errors, which becomes the answer."""

    def __init__(
        self, kind: str, detail: str, validation_errors: list[str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = int(kind[:3])
        self.kind = kind
        self.detail = detail
        self.validation_errors = validation_errors

    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "status": self.status,
            "title": _KINDS[self.kind],
            "type": _BASE + self.kind,
            "detail": self.detail,
        }
        if self.validation_errors is not None:
            # Strings, as Materialize's client reads them: their form is not
            # documented.
            payload["validation_errors"] = self.validation_errors
        return payload


def invalid(*errors: str) -> Problem:
    return Problem("400-request-validation-errors", "; ".join(errors), list(errors))


def refused(detail: str) -> Problem:
    return Problem("400-constraint-violation", detail)


def conflict(detail: str) -> Problem:
    return Problem("409-resource-conflict", detail)


def unknown(resource: str, identifier: str) -> Problem:
    # The wording is from the example in Orb's documentation.
    return Problem(
        "404-resource-not-found",
        f"Could not find a resource of type {resource} with identifier: {identifier}.",
    )


def payload_for_status(status: int, detail: str) -> dict[str, Any]:
    """Return an error body for a status, even if Orb has no type for it."""
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return Problem(kind, detail).payload()
    # Orb documents one type for its own failures; a proxy in front of it has none.
    kind = "500-internal-server-error" if status >= 500 else "about:blank"
    return {"status": status, "title": detail, "type": kind, "detail": detail}
