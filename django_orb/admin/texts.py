"""Translate texts of modules and classes when they are shown."""

from __future__ import annotations

from typing import cast

from django.utils.translation import gettext_lazy


def lazy(text: str) -> str:
    """As `gettext_lazy`, for what the type of a text is asked of."""
    return cast("str", gettext_lazy(text))
