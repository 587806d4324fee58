"""Translate texts of modules and classes when they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from django.utils.functional import lazy as make_lazy
from django.utils.translation import gettext_lazy


def lazy(text: str) -> str:
    """As `gettext_lazy`, for what the type of a text is asked of."""
    return cast("str", gettext_lazy(text))


def later(make: Callable[[], str]) -> str:
    """
    Return a text that is made each time it is shown, in the language of the moment.

    A message is in the user's language, and the same text in the history in English.
    """
    return make_lazy(make, str)()
