"""Store what Orb sends in model fields: ids, money and JSON that stays exact."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_orb.exact_json import ExactJSONDecoder, ExactJSONEncoder, dumps, loads

# PostgreSQL indexes no text of more than about 2,700 bytes, and Orb bounds none of its
# own; a character has 4 bytes at most.
SEARCH_KEY_LENGTH = 100
EXACT_COLLATIONS = {"mysql": "utf8mb4_nopad_bin", "postgresql": "C"}


def search_key(text: str) -> str:
    """Shorten and fold a text of any length to what is indexed for searching."""
    return text.casefold()[:SEARCH_KEY_LENGTH]


class ExactCollationMixin:
    """
    Compare by code point on every database.

    MariaDB's default collation takes "aB" for "Ab", and its other binary
    collations ignore trailing spaces. PostgreSQL's order depends on the locale,
    while Python sorts ids too; "C" also serves prefix searches.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = super().db_parameters(connection)  # type: ignore[misc]
        if connection.vendor in EXACT_COLLATIONS:
            parameters["collation"] = EXACT_COLLATIONS[connection.vendor]
        return parameters


class ExactCharField(ExactCollationMixin, models.CharField):  # type: ignore[type-arg]
    """A bounded text that compares by code point."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.vendor == "postgresql":
            # Under this name Django adds no second index for LIKE: "C" needs none.
            return f"character varying({self.max_length})"
        return super().db_type(connection)


class OrbIdField(ExactCharField):
    """An id that Orb made: opaque, case-sensitive, about 16 characters today."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 128)
        super().__init__(*args, **kwargs)


class SearchKeyField(ExactCharField):
    """The folded, bounded beginning of a text, for exact and prefix search."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_length"] = SEARCH_KEY_LENGTH
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)


class ExactTextField(ExactCollationMixin, models.TextField):  # type: ignore[type-arg]
    """A text of any length that compares by code point."""


class MoneyField(models.DecimalField):  # type: ignore[type-arg]
    """An amount in the unit of the currency beside it; a `Decimal`, never a float."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"] = 38
        kwargs["decimal_places"] = 18
        super().__init__(*args, **kwargs)


class PayloadField(models.JSONField):
    """JSON as Orb sent it: fractional numbers are `Decimal` in both directions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Django's default refuses a `Decimal`, and `DjangoJSONEncoder` makes the number
        # 1.50 the text "1.50".
        kwargs["encoder"] = ExactJSONEncoder
        kwargs["decoder"] = ExactJSONDecoder
        super().__init__(*args, **kwargs)

    def value_to_string(self, obj: models.Model) -> Any:
        """Return the JSON as a text: as a part of a fixture its numbers would be rounded."""
        return dumps(self.value_from_object(obj))

    def to_python(self, value: Any) -> Any:
        """Read the text of a fixture. Payloads are objects, and never a text."""
        if not isinstance(value, str):
            return value
        try:
            return loads(value)
        except ValueError as err:
            raise ValidationError(f"A payload is not JSON: {err}") from err

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        # `__init__` gives them; a migration would import them from where they are
        # today.
        del kwargs["encoder"], kwargs["decoder"]
        return name, path, args, kwargs
