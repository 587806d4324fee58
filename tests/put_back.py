"""Faults that were there once, put back so that a proof is seen to find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def put_back(
    patch: pytest.MonkeyPatch, module: Any, name: str, wrong: Callable[..., Any]
) -> None:
    """Replace a function of the package by one that is wrong."""
    patch.setattr(module, name, wrong)
