"""Test against Orb without Orb."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import OrbSandboxMixin as OrbSandboxMixin
    from .endpoint import OrbWebhook as OrbWebhook
    from .factories import InvoiceFactory as InvoiceFactory
    from .sandbox import OrbSandbox as OrbSandbox

_PLACES = {
    "InvoiceFactory": ".factories",
    "OrbSandbox": ".sandbox",
    "OrbSandboxMixin": ".cases",
    "OrbWebhook": ".endpoint",
}

__all__ = ["InvoiceFactory", "OrbSandbox", "OrbSandboxMixin", "OrbWebhook"]

MISSING = 'The sandbox needs werkzeug: pip install "django-orb[testing]"'


def __getattr__(name: str) -> Any:
    # On demand: the sandbox works without Django, the factories without werkzeug.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_PLACES[name], __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "werkzeug":
            raise
        raise ImportError(MISSING) from error
