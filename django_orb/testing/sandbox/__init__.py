"""The account behind HTTP: routes, faults, limits and webhooks."""

from __future__ import annotations

from .deliveries import signed_headers
from .orb_sandbox import OrbSandbox

__all__ = ["OrbSandbox", "signed_headers"]
