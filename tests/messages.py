"""
Bring the translations up to date with the code: `python -m tests.messages`.

New texts come without a translation and changed ones marked as fuzzy; what was
translated before stays. The files that Django reads (`.mo`) are made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

PACKAGE = Path(__file__).parent.parent / "django_orb"
HEADER = "# Translations of django_orb; the texts are those of the code.\n#"

# By the functions that texts go through, which of their arguments are texts.
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop", "lazy")),
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
_TEXT = r"""u?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
_CALL = re.compile(
    rf"\b(?:_|gettext|ngettext|pgettext|npgettext)\({_TEXT}(?:, ?{_TEXT})*"
)


def read_source() -> Catalog:
    """Every text of the code and the templates, with where it stands."""
    catalog = Catalog(project="django_orb", charset="utf-8")
    for file in sorted(PACKAGE.rglob("*.py")):
        _add(catalog, file, file.read_bytes())
    for file in sorted(PACKAGE.rglob("*.html")):
        calls = _CALL.findall(templatize(file.read_text()))
        _add(catalog, file, "\n".join(f"{call})" for call in calls).encode())
    return catalog


def _add(catalog: Catalog, file: Path, source: bytes) -> None:
    found = extract("python", BytesIO(source), KEYWORDS)
    for _line, text, _comments, context in found:
        where = [(file.relative_to(PACKAGE).as_posix(), 0)]
        catalog.add(text, locations=where, context=context)


def catalogs() -> Iterator[tuple[Path, Catalog]]:
    """The files of translations, and what is in them."""
    for file in sorted(PACKAGE.glob("locale/*/LC_MESSAGES/django.po")):
        with file.open("rb") as stream:
            yield file, read_po(stream, locale=file.parts[-3])


def compiled(catalog: Catalog) -> bytes:
    stream = BytesIO()
    write_mo(stream, catalog)
    return stream.getvalue()


def main() -> None:
    source = read_source()
    for file, catalog in catalogs():
        source.creation_date = catalog.creation_date  # no change for its own sake
        catalog.update(source)
        catalog.obsolete.clear()
        catalog.header_comment = HEADER
        with file.open("wb") as stream:
            write_po(stream, catalog, width=88, include_lineno=False)
        file.with_suffix(".mo").write_bytes(compiled(catalog))
        texts = [one for one in catalog if one.id]
        done = [one for one in texts if one.string and not one.fuzzy]
        print(f"{file.parts[-3]}: {len(done)} of {len(texts)} texts are translated.")


if __name__ == "__main__":
    main()
