"""The admin in another language than English: nothing of ours is left over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.utils import translation
from django.utils.translation import trans_real

from django_orb import formats
from tests.messages import catalogs

from .everything import make_one_of_everything, pages

# What is the same in all languages, and a word that is bare in Django's own page.
NAMES = {"UTC", "PST", "PDT", "EU", "VAT", "Search"}
PLACE = re.compile(r"%\(\w+\)s|%%|%[ds]|{}")

CATALOGS = dict(catalogs())
every_catalog = pytest.mark.parametrize(
    ("file", "catalog"),
    CATALOGS.items(),
    ids=[file.parts[-3] for file in CATALOGS],
)


class Marked:
    """A language whose every text is the English one between ⟦ and ⟧."""

    def __init__(self, english: Any) -> None:
        self.english = english

    def __getattr__(self, name: str) -> Any:
        return getattr(self.english, name)

    def gettext(self, text: str) -> str:
        return mark(self.english.gettext(text))

    def ngettext(self, one: str, many: str, number: int) -> str:
        return mark(self.english.ngettext(one, many, number))


def mark(text: str) -> str:
    return f"⟦{text.rpartition(trans_real.CONTEXT_SEPARATOR)[2]}⟧"


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    language = Marked(trans_real.translation("en-us"))
    monkeypatch.setitem(trans_real._translations, "en-us", language)  # type: ignore[attr-defined]
    # Days are remembered by the name of the language.
    formats._written.cache_clear()
    with translation.override("en-us"):
        yield
    formats._written.cache_clear()


def read_texts(page: str) -> set[str]:
    """What a person reads on a page or is told by it, without scripts and JSON."""
    shown = re.sub(r"(?s)<(script|style|pre)\b.*?</\1>", "", page)
    told = re.findall(r'\b(?:title|aria-label|placeholder|alt)="([^"]*)"', shown)
    texts = [unescape(text).strip() for text in re.split(r"(?s)<[^>]*>", shown) + told]
    return {text for text in texts if text}


def without_marked(page: str) -> str:
    """Marks may be within marks."""
    rest, count = page, 1
    while count:
        rest, count = re.subn("⟦[^⟦⟧]*⟧", "", rest)
    return rest


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{2,}", text))


def known_words() -> set[str]:
    """Those in the database, which are Orb's or somebody's."""

    def values(stored: Any) -> Iterator[Any]:
        if isinstance(stored, dict):
            stored = list(stored.values())
        if isinstance(stored, list):
            for one in stored:
                yield from values(one)
        else:
            yield stored

    models = [
        *apps.get_app_config("django_orb").get_models(),
        apps.get_model("auth.user"),
    ]
    rows = [row for model in models for row in model._default_manager.values()]
    return {
        word
        for row in rows
        for stored in row.values()
        for value in values(stored)
        for word in words(str(value))
    }


def test_every_text_of_every_page_can_be_translated(
    marked: None, finance: Client
) -> None:
    make_one_of_everything("9.9.9")
    known = known_words() | NAMES

    left: dict[str, str] = {}
    for name, page in pages(finance).items():
        for text in read_texts(without_marked(page)):
            if words(text) - known:
                left.setdefault(text, name)

    assert left == {}
