"""Test against Orb without Orb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sandbox import OrbSandbox as OrbSandbox

__all__ = ["OrbSandbox"]


def __getattr__(name: str) -> Any:
    # Late, so that what needs no werkzeug can be imported without it.
    if name != "OrbSandbox":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .sandbox import OrbSandbox
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "werkzeug":
            raise
        raise ImportError(MISSING) from error
    return OrbSandbox


MISSING = 'The sandbox needs werkzeug: pip install "django-orb[testing]"'
