"""The admin in another language than English: nothing of ours is left over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from django.apps import apps
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import translation
from django.utils.timezone import now
from django.utils.translation import trans_real

from django_orb import formatting
from django_orb.admin.actions.forms import NumberField
from django_orb.operations.lookup import SHOWN
from tests.messages import catalogs, compiled, read_source

from .everything import make_one_of_everything, pages

# What is the same in all languages, and a word that is bare in Django's own page.
NAMES = {"OK", "UTC", "PST", "PDT", "EU", "VAT", "Search"}
TAGS = re.compile(r"</?\w+>")
PLACE = re.compile(r"%\(\w+\)s|%%|%[ds]|{}")

CATALOGS = dict(catalogs())
every_catalog = pytest.mark.parametrize(
    ("file", "catalog"), CATALOGS.items(), ids=[file.parts[-3] for file in CATALOGS]
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
    for code in ("en", "en-us"):
        monkeypatch.setitem(trans_real._translations, code, language)  # type: ignore[attr-defined]
    # Days are remembered by the name of the language.
    formatting._written.cache_clear()
    with translation.override("en-us", deactivate=True):
        yield
    formatting._written.cache_clear()


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


def texts_of(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Every text of the code with its translation; forms of plurals one by one."""
    for message in catalog:
        if message.id and isinstance(message.id, str):
            yield message.id, str(message.string)
        elif message.id:
            assert isinstance(message.string, (list, tuple))
            assert len(message.string) == catalog.num_plurals, message.id
            forms = [message.id[0], *[message.id[-1]] * (catalog.num_plurals - 1)]
            yield from zip(forms, message.string, strict=True)


def texts_in(catalog: Catalog) -> dict[Any, Any]:
    """What it says, without the header, which names the tool that wrote it."""
    return {(one.context, str(one.id)): str(one.string) for one in catalog if one.id}


def test_there_is_a_translation() -> None:
    assert [file.parts[-3] for file in CATALOGS] == ["de"]


@every_catalog
def test_a_translation_has_every_text_of_the_code_and_no_other(
    file: Path, catalog: Catalog
) -> None:
    wanted = {(message.context, message.id) for message in read_source()}
    there = {(message.context, message.id) for message in catalog}

    assert there == wanted, "python -m tests.messages brings it up to date"
    assert not catalog.obsolete


@every_catalog
def test_a_translation_is_complete_and_keeps_the_places(
    file: Path, catalog: Catalog
) -> None:
    assert [message.id for message in catalog if message.id and message.fuzzy] == []
    for english, translated in texts_of(catalog):
        assert translated.strip(), english
        assert sorted(PLACE.findall(translated)) == sorted(PLACE.findall(english))
        edges = re.compile(r"^\s*|\s*$")
        assert edges.findall(translated) == edges.findall(english), english
        assert TAGS.findall(translated) == TAGS.findall(english), english


def test_people_are_sent_to_orb_in_one_wording() -> None:
    asks = r"\b(look|see|verify|inspect|check)(?! again)(?: (?!in\b)\w+){0,3} in Orb\b"
    (german,) = (one for file, one in CATALOGS.items() if file.parts[-3] == "de")

    found = [
        (english, translated)
        for english, translated in texts_of(german)
        if re.search(asks, english, re.IGNORECASE)
    ]

    assert len(found) >= 8
    for english, translated in found:
        assert re.search(r"Check in Orb\b|checked in Orb", english, re.I), english
        assert "nachsehen" in translated or "nachgesehen" in translated, translated


@every_catalog
def test_what_django_reads_is_what_was_translated(file: Path, catalog: Catalog) -> None:
    with file.with_suffix(".mo").open("rb") as stream:
        there = read_mo(stream)
    expected = read_mo(BytesIO(compiled(catalog)))

    assert texts_in(there) == texts_in(expected), "python -m tests.messages compiles it"
    assert there.plural_forms == expected.plural_forms


@pytest.mark.proof
@every_catalog
def test_no_page_in_another_language_has_our_english(
    file: Path, catalog: Catalog, finance: Client
) -> None:
    make_one_of_everything("9.9.9")
    ours = {english for english, _ in texts_of(catalog)}
    ours -= {other for _, other in texts_of(catalog)}  # spelled the same by chance
    known = known_words()
    english = {text for text in ours if not words(text) <= known}

    finance.defaults["HTTP_ACCEPT_LANGUAGE"] = file.parts[-3]
    with translation.override(file.parts[-3]):
        shown = {name: read_texts(page) for name, page in pages(finance).items()}

    assert {
        name: found for name, texts in shown.items() if (found := texts & english)
    } == {}
    assert "Gesamtbetrag" in shown["admin:django_orb_invoice issued"]
    assert "Forderungen nach Alter" in shown["admin:django_orb_overview list"]


def test_numbers_are_typed_as_the_language_writes_them() -> None:
    with translation.override("de"):
        typed = NumberField().clean("1234,50")
        with pytest.raises(ValidationError, match=r"„zwölf“ .* wie 1234,50"):
            NumberField().clean("zwölf")

    assert typed == "1234.50"


def test_ago_is_inflected() -> None:
    with translation.override("de"):
        assert formatting.ago(now() - timedelta(days=3)) == "vor 3\xa0Tagen"
    with translation.override("en"):
        assert formatting.ago(now() - timedelta(days=3)) == "3\xa0days ago"


def test_what_was_recorded_in_english_is_read_in_the_readers_language() -> None:
    with translation.override("de"):
        assert formatting.recorded(SHOWN).startswith("Orb hat nicht geantwortet")
        assert (
            formatting.recorded("Something of Orb's own.") == "Something of Orb's own."
        )
        assert formatting.recorded("") == ""


def test_headings_keep_the_capitals_of_the_language(finance: Client) -> None:
    finance.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"

    page = finance.get("/admin/django_orb/invoicefailure/").content.decode()

    assert "<h1>Nicht lesbare Rechnungen</h1>" in page
