"""
The errors of django_orb.

OrbError
├── OrbAPIError                      Orb answered, and the answer is an error
│   ├── OrbBadRequestError               400
│   │   ├── OrbRequestValidationError        body or parameters are invalid
│   │   ├── OrbConstraintViolationError      a business rule forbids it
│   │   ├── OrbDuplicateResourceError        the id exists already
│   │   └── OrbFeatureNotAvailableError      not enabled for the account
│   ├── OrbAuthenticationError           401
│   ├── OrbPermissionError               403
│   ├── OrbNotFoundError                 404: Orb says that it has no such thing
│   ├── OrbURLNotFoundError              any other 404: check BASE_URL
│   ├── OrbConflictError                 409
│   ├── OrbTooLargeError                 413
│   ├── OrbRateLimitError                429
│   └── OrbServerError                   5xx
├── OrbConnectionError               no answer came
│   └── OrbTimeoutError
├── OrbResponseError                 the answer could not be read
│   └── OrbResponseTooLargeError         it is larger than 128 MiB
├── OrbPayloadError                  one invoice could not be understood
├── OrbInputError                    an argument cannot be right; nothing was sent
├── OrbWebhookVerificationError      a webhook that Orb did not sign
├── OrbAccountError                  the key belongs to another account
├── OrbReadOnlyError                 DJANGO_ORB["READ_ONLY"] forbids the write
├── OrbTransactionError              called inside a transaction
├── OrbRefusedError                  Orb refused a write; nothing happened
├── OrbOutcomeUnknownError           it is not known yet whether a write happened
├── OrbExportError                   no file was made, and the message says why
├── OrbSyncRunningError              another run of this kind is active
└── OrbSyncFailedError               a run ended without finishing its work
OrbConfigurationError                the settings are wrong (ImproperlyConfigured)
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.utils import translation

if TYPE_CHECKING:
    import requests


def in_english(value: object) -> str:
    """Return a value's text in English, whatever language is active."""
    # Errors end up in logs and in the database. What users read of them is translated
    # then, for which it must be stored as the code has it.
    with translation.override(None):
        return str(value)


class OrbConfigurationError(ImproperlyConfigured):
    """
    `DJANGO_ORB` is missing something or holds something unknown.

    It is not an `OrbError`: code that handles Orb's failures must not hide it.
    """


class OrbError(Exception):
    """The base of all errors of this package, which is not raised itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery pickles errors; the default would call __init__ with `args` alone.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class OrbAPIError(OrbError):
    """
    Orb answered with an error.

    `type` is the last part of Orb's problem type, such as
    "404-resource-not-found", or "" if the body was not Orb's JSON.
    `retry_after_seconds` is Orb's advice, if it gave one. `follows_doubt` says that the
    client had sent the same request before and got no answer that told whether it was
    done.

    Source: https://docs.withorb.com/api-reference/error-responses
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        type: str = "",
        title: str = "",
        detail: str = "",
        validation_errors: list[Any] | None = None,
        request_id: str | None = None,
        response: requests.Response | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.type = type
        self.title = title
        self.detail = detail
        self.validation_errors = validation_errors or []
        self.request_id = request_id
        self.response = response
        self.retry_after_seconds = retry_after_seconds
        self.follows_doubt = False


class OrbBadRequestError(OrbAPIError):
    """400: the request as it stands will never be accepted."""


class OrbRequestValidationError(OrbBadRequestError):
    """400: body or parameters are invalid; see `validation_errors`."""


class OrbConstraintViolationError(OrbBadRequestError):
    """400: a state or business rule forbids it, such as voiding a paid invoice."""


class OrbDuplicateResourceError(OrbBadRequestError):
    """400: something with this id exists already."""


# Orb's table of errors has it as a 404, and its schema says "status: 400".
class OrbFeatureNotAvailableError(OrbBadRequestError):
    """400 or 404: the feature is not enabled for the account."""


class OrbAuthenticationError(OrbAPIError):
    """401: the API key is missing, wrong or revoked."""


# Orb documents no type of error for it: only the status tells.
class OrbPermissionError(OrbAPIError):
    """403: the API key may not do this."""


class OrbNotFoundError(OrbAPIError):
    """404 of Orb's own kind: nothing with this id in the account of the key."""


class OrbURLNotFoundError(OrbAPIError):
    """
    404 of a route or a proxy, which says nothing about what was asked for.

    Usually `BASE_URL` is wrong.
    """


# Orb has not begun, and does not keep this answer under the key: asking again does no
# harm (https://docs.withorb.com/reference/idempotency).
class OrbConflictError(OrbAPIError):
    """409: the idempotency key is in use, or was used with another body."""


class OrbTooLargeError(OrbAPIError):
    """413: request or answer is too large."""


# Orb documents no header with advice, so that is None as a rule.
class OrbRateLimitError(OrbAPIError):
    """429: not executed; `retry_after_seconds` is Orb's advice if it gave one."""


class OrbServerError(OrbAPIError):
    """5xx: Orb's side failed; a write may or may not have happened."""


class OrbConnectionError(OrbError):
    """No answer came; a write may or may not have happened."""


class OrbTimeoutError(OrbConnectionError):
    """No answer came in time; a write may or may not have happened."""


class OrbResponseError(OrbError):
    """A success whose body is not the JSON it should be."""


class OrbResponseTooLargeError(OrbResponseError):
    """The answer is larger than what is read; ask for less at a time."""


class OrbPayloadError(OrbError):
    """One invoice could not be understood; the message says which field and why."""


class OrbInputError(OrbError, ValueError):
    """
    An argument cannot be right; nothing was sent and nothing was written.

    `field` names the argument, if one alone is wrong.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


# If it leaves a view, Django answers 400, as to any SuspiciousOperation.
class OrbWebhookVerificationError(OrbError, SuspiciousOperation):
    """A webhook that Orb did not sign, or not within the last five minutes."""


class OrbAccountError(OrbError):
    """The API key belongs to another Orb account than the mirror."""


class OrbReadOnlyError(OrbError):
    """`DJANGO_ORB["READ_ONLY"]` is on: nothing that changes Orb is sent."""


class OrbTransactionError(OrbError):
    """
    A call that writes to Orb was made inside a database transaction.

    Its record must be committed before the request leaves, or a crash would
    forget what was sent. Call it outside `atomic()`, for instance from
    `transaction.on_commit` or a Celery task.
    """


class OrbRefusedError(OrbError):
    """Orb refused a write and nothing happened; `detail` says why."""

    def __init__(self, operation: Any, detail: str) -> None:
        super().__init__(detail)
        self.operation = operation
        self.detail = detail


class OrbOutcomeUnknownError(OrbError):
    """
    No answer told whether a write happened.

    Do not call again: `operation` stays pending, and `django_orb.tasks.recover`
    finds out, with the same idempotency key. If it cannot, a person must.
    """

    def __init__(self, operation: Any) -> None:
        end = "It is recorded, and django_orb.tasks.recover will find out"
        if getattr(operation, "state", "") == "needs_attention":
            end = f"It needs attention: {operation.detail.rstrip('.')}"
        super().__init__(
            f"Orb did not confirm operation {operation.pk} "
            f"({in_english(operation)}). {end}; "
            "do not send it again."
        )
        self.operation = operation


class OrbExportError(OrbError):
    """An export came to nothing; `reason` and `detail` say why."""

    def __init__(self, reason: str, *, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail


class OrbSyncRunningError(OrbError):
    """Another run of this kind is active, which is `run`."""

    def __init__(self, message: str, *, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class OrbSyncFailedError(OrbError):
    """A run ended without finishing its work; `run` has the reason."""

    def __init__(self, message: str, *, run: Any = None) -> None:
        super().__init__(message)
        self.run = run
