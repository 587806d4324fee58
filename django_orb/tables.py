"""
Rows written in bulk, past the ORM: compiling its statements costs three times
what the database does. What is written where is read off the models' fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from . import exact_json
from .exact_json import JSONText

Row = Mapping[str, Any]

# Of one statement, to keep it well below what servers take at once.
_MAX_PARAMETERS = 60_000
_COPY_ROWS = 1000
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def insert(model: type[models.Model], rows: Sequence[Row], *, using: str) -> None:
    """
    Insert rows that are not there; all name the same columns, by field name.

    With psycopg 3 through COPY, which needs no statement to be put together.

    Raises:
        IntegrityError: a row is there already.
    """
    if not rows:
        return
    connection = connections[using]
    if _can_copy(connection):
        _copy(connection, model, rows)
    else:
        _execute(connection, model, rows, conflict="")


def claim(model: type[models.Model], rows: Sequence[Row], *, using: str) -> None:
    """Insert rows, but for those whose key is there already."""
    if not rows:
        return
    connection = connections[using]
    if connection.vendor == "mysql":
        _execute(connection, model, rows, conflict="", verb="INSERT IGNORE")
    else:
        _execute(connection, model, rows, conflict="ON CONFLICT DO NOTHING")


def upsert(
    model: type[models.Model], rows: Sequence[Row], *, key: Iterable[str], using: str
) -> None:
    """
    Insert rows, or overwrite those with the same key.

    All rows name the same columns, by field name. No signals, no return values.
    """
    if not rows:
        return
    connection = connections[using]
    names = tuple(rows[0])
    conflict = _conflict(connection, model, names, frozenset(key))
    _execute(connection, model, rows, conflict=conflict)


def _execute(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    rows: Sequence[Row],
    *,
    conflict: str,
    verb: str = "INSERT",
) -> None:
    names = tuple(rows[0])
    zone = connection.timezone_name
    adapters = _adapters(connection.vendor, zone, model, names)
    parameters = [
        [
            row[name] if adapt is None or row[name] is None else adapt(row[name])
            for name, adapt in adapters
        ]
        for row in rows
    ]
    head = f"{verb} INTO {_target(connection, model, names)}"
    one = f"({', '.join(['%s'] * len(names))})"
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executemany(f"{head} VALUES {one} {conflict}", parameters)
            return
        if connection.vendor == "postgresql":
            # A statement of the same text for any number of rows.
            arrays = _arrays(connection, model, names)
            columns = [list(column) for column in zip(*parameters, strict=True)]
            sql = f"{head} SELECT * FROM unnest({arrays}) {conflict}"  # noqa: S608
            cursor.execute(sql, columns)
            return
        size = _MAX_PARAMETERS // len(names)
        for start in range(0, len(parameters), size):
            batch = parameters[start : start + size]
            values = ", ".join([one] * len(batch))
            cursor.execute(
                f"{head} VALUES {values} {conflict}",
                [value for row in batch for value in row],
            )


def _arrays(
    connection: BaseDatabaseWrapper, model: type[models.Model], names: Sequence[str]
) -> str:
    types = [_field(model, name).db_type(connection) for name in names]
    return ", ".join(f"%s::{kind}[]" for kind in types)


def _can_copy(connection: BaseDatabaseWrapper) -> bool:
    if connection.vendor != "postgresql":
        return False
    connection.ensure_connection()
    return type(connection.connection).__module__.partition(".")[0] == "psycopg"


def _copy(
    connection: BaseDatabaseWrapper, model: type[models.Model], rows: Sequence[Row]
) -> None:
    names = tuple(rows[0])
    sql = f"COPY {_target(connection, model, names)} FROM STDIN"
    with (
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(sql) as copy,
    ):
        # Piece by piece, so that the server works while the next one is made.
        for start in range(0, len(rows), _COPY_ROWS):
            copy.write(_copy_text(model, names, rows[start : start + _COPY_ROWS]))


def _copy_text(
    model: type[models.Model], names: tuple[str, ...], rows: Sequence[Row]
) -> str:
    """Rows in PostgreSQL's COPY text format."""
    writers = _copy_writers(model, names)
    lines = []
    for row in rows:
        values = []
        for name, write in writers:
            value = row[name]
            values.append(r"\N" if value is None else write(value))
        lines.append("\t".join(values))
    lines.append("")
    return "\n".join(lines)


def _target(
    connection: BaseDatabaseWrapper, model: type[models.Model], names: Sequence[str]
) -> str:
    quote = connection.ops.quote_name
    columns = ", ".join(quote(_column(model, name)) for name in names)
    return f"{quote(model._meta.db_table)} ({columns})"


def _conflict(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    names: tuple[str, ...],
    key: frozenset[str],
) -> str:
    quote = connection.ops.quote_name
    changed = [quote(_column(model, name)) for name in names if name not in key]
    if connection.vendor == "mysql":
        update = ", ".join(f"{column} = VALUES({column})" for column in changed)
        return f"ON DUPLICATE KEY UPDATE {update}"
    target = ", ".join(quote(_column(model, name)) for name in names if name in key)
    update = ", ".join(f"{column} = excluded.{column}" for column in changed)
    return f"ON CONFLICT ({target}) DO UPDATE SET {update}"


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)  # noqa: S101
    return field


def _column(model: type[models.Model], name: str) -> str:
    return str(_field(model, name).column)


@cache
def _adapters(
    vendor: str, zone: str, model: type[models.Model], names: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    """What turns a Python value into what the driver takes; None: it is that."""
    return tuple((name, _adapter(vendor, zone, _field(model, name))) for name in names)


def _adapter(
    vendor: str, zone: str, field: models.Field[Any, Any]
) -> Callable[[Any], Any] | None:
    if isinstance(field, models.JSONField):
        return _json_text(field)
    if isinstance(field, models.DecimalField) and vendor == "sqlite":
        return _plain_decimal
    if isinstance(field, models.DateTimeField) and vendor != "postgresql":
        return _naive_utc if zone == "UTC" else _naive_in(ZoneInfo(zone))
    return None


@cache
def _copy_writers(
    model: type[models.Model], names: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any], str]], ...]:
    """What turns a Python value into a field of PostgreSQL's COPY text format."""
    return tuple((name, _copy_writer(_field(model, name))) for name in names)


def _copy_writer(field: models.Field[Any, Any]) -> Callable[[Any], str]:
    if isinstance(field, models.JSONField):
        text = _json_text(field)
        return lambda value: text(value).replace("\\", "\\\\")
    if isinstance(field, models.DateTimeField):
        return datetime.isoformat
    if isinstance(field, models.BooleanField):
        return lambda value: "t" if value else "f"
    if isinstance(field, (models.DecimalField, models.IntegerField)):
        return str
    return _escaped


def _escaped(value: str) -> str:
    is_plain = value.isprintable() and "\\" not in value
    return value if is_plain else value.translate(_COPY_ESCAPES)


def _json_text(field: models.JSONField[Any, Any]) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if type(value) is JSONText:
            return value
        return exact_json.dumps(value) if value else _empty_json(value)

    return write


def _empty_json(value: Any) -> str:
    return "[]" if value == [] else exact_json.dumps(value)


def _plain_decimal(value: Decimal) -> str:
    return f"{value:f}"


def _naive_utc(value: datetime) -> str:
    """As Django stores a time where the database knows no zones; ours are UTC."""
    return value.replace(tzinfo=None).isoformat(" ")


def _naive_in(zone: ZoneInfo) -> Callable[[datetime], str]:
    return lambda value: _naive_utc(value.astimezone(zone))
