"""The few patterns of plain English that a test can hold."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path
    for folder in ("django_orb", "example_project")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / ".github").glob("*.md"),
    *(ROOT / "django_orb").rglob("*.html"),
]
#: Words of another century, and words that do not say who or why.
ODD = re.compile(
    r"\b(anew|nobody|somebody|hence|thereby|whilst|comes? along|whose hands)\b"
    r"|(?<!here)\b (is|are) no (?!longer\b|such\b|more\b)",
    re.I,
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, DOCUMENTED):
            yield ast.get_docstring(node) or ""


def prose(path: Path) -> str:
    """All that people read in a file: of code, its comments and its texts."""
    if path.suffix != ".py":
        return path.read_text()
    with path.open("rb") as file:
        return "\n".join(
            token.string
            for token in tokenize.tokenize(file.readline)
            if token.type in (tokenize.COMMENT, tokenize.STRING)
        )


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=name_of)
def test_no_sentence_needs_to_be_read_twice_for_an_odd_word(path: Path) -> None:
    assert not ODD.findall(prose(path))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_docstring_is_a_sentence_that_ends(path: Path) -> None:
    for text in filter(None, docstrings(path)):
        assert not text.startswith("What "), text
        assert text.split("\n\n")[0].rstrip().endswith((".", ":", "?")), text
