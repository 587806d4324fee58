"""Faults inside the package, which no seam can cause: such as were there once, or a kill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest


def put_back(
    patch: pytest.MonkeyPatch, module: Any, name: str, wrong: Callable[..., Any]
) -> None:
    """Replace a function of the package, by one that is wrong or is interrupted."""
    patch.setattr(module, name, wrong)


def break_at(
    patch: pytest.MonkeyPatch, module: Any, name: str, error: type | BaseException
) -> None:
    """Let a function of the package raise, as after a programming error or a kill."""
    put_back(patch, module, name, Mock(side_effect=error))
