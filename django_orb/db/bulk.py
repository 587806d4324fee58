"""
Write rows in bulk without the ORM, which takes three times as long to compile its
statements as the database to execute them. The models' fields name tables and types.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from django.db import DataError, models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_orb import exact_json
from django_orb.exact_json import JSONText

from . import primary

Row = Mapping[str, Any]

_CopyWriter = tuple[str, Callable[[Any], str]]

# In one statement: well below what servers accept.
_MAX_PARAMETERS = 60_000
# In its lax mode MariaDB would store "?" for a character that a column cannot hold.
_STRICTLY = "SET STATEMENT sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES') FOR"
# The most bytes of a statement besides its rows, and of a value that is not a text.
_OVERHEAD_BYTES = 8192
_MAX_PLAIN_BYTES = 64
_QUOTES_BYTES = 4
# What the driver writes as two characters (`mysql_real_escape_string`).
_MARIADB_ESCAPES = "\\'\"\0\n\r\x1a"
# By the driver's connection, since another one may have another limit.
_max_packets: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_COPY_ROWS = 1000
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class FormattedRow(dict[str, Any]):
    """A row with its text for COPY, which was formatted in advance."""

    def __init__(self, model: type[models.Model], row: Row) -> None:
        super().__init__(row)
        self.names = tuple(row)
        self.text = "\t".join(_copy_values(_copy_writers(model, self.names), row))

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self.names:
            # The text is no longer right: the row is formatted again when it is inserted.
            self.names = ()
        super().__setitem__(name, value)


def format_rows(model: type[models.Model], rows: Iterable[Row]) -> list[FormattedRow]:
    """
    Format rows for `insert` in advance, for databases where it `uses_copy`.

    This needs no database. Columns that are set later are formatted by `insert`.
    """
    return [FormattedRow(model, row) for row in rows]


def insert(model: type[models.Model], rows: Sequence[Row]) -> None:
    """
    Insert new rows, all with the same field names in the same order.

    With psycopg 3 this uses COPY, which saves putting a statement together.

    Raises:
        IntegrityError: a row exists already.
    """
    if not rows:
        return
    connection = primary.connection()
    if uses_copy():
        _copy(connection, model, rows)
    else:
        _execute(connection, model, rows, conflict="")


def claim(model: type[models.Model], rows: Sequence[Row]) -> None:
    """Insert rows, except those whose key exists already."""
    if not rows:
        return
    connection = primary.connection()
    conflict = "ON CONFLICT DO NOTHING"
    if connection.vendor == "mysql":
        # INSERT IGNORE would also ignore that a column cannot hold a value.
        key = connection.ops.quote_name(_primary_key(model))
        conflict = f"ON DUPLICATE KEY UPDATE {key} = {key}"
    _execute(connection, model, rows, conflict=conflict)


def upsert(
    model: type[models.Model], rows: Sequence[Row], *, key: Iterable[str]
) -> None:
    """
    Insert rows, or overwrite those with the same key, without sending signals.

    All rows have the same field names.
    """
    if not rows:
        return
    connection = primary.connection()
    names = tuple(rows[0])
    conflict = _conflict(connection, model, names, frozenset(key))
    _execute(connection, model, rows, conflict=conflict)


def _execute(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    rows: Sequence[Row],
    *,
    conflict: str,
) -> None:
    names = tuple(rows[0])
    zone = connection.timezone_name
    has_uuid = connection.features.has_native_uuid_field
    adapters = _adapters(connection.vendor, zone, has_uuid, model, names)
    parameters = [
        [
            row[name] if adapt is None or row[name] is None else adapt(row[name])
            for name, adapt in adapters
        ]
        for row in rows
    ]
    head = f"INSERT INTO {_target(connection, model, names)}"
    marks = f"({', '.join(['%s'] * len(names))})"
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            # There is no round trip to save. A statement for all rows would have
            # another text for each number of rows, and fill the memory as the driver
            # caches statements.
            cursor.executemany(f"{head} VALUES {marks} {conflict}", parameters)
            return
        if connection.vendor == "postgresql":
            # The statement has the same text for any number of rows.
            arrays = _arrays(connection, model, names)
            columns = [list(column) for column in zip(*parameters, strict=True)]
            sql = f"{head} SELECT * FROM unnest({arrays}) {conflict}"  # noqa: S608
            cursor.execute(sql, columns)
            return
        for batch in _batches(connection, model, parameters):
            values = ", ".join([marks] * len(batch))
            cursor.execute(
                f"{_STRICTLY} {head} VALUES {values} {conflict}",
                [value for row in batch for value in row],
            )


def is_text_taken(text: str) -> bool:
    """Tell whether a row with this text is certain to fit into a statement."""
    connection = primary.connection()
    is_limited = connection.vendor == "mysql"
    return not is_limited or 2 * _byte_count(text) < _max_bytes(connection) // 2


def _max_bytes(connection: BaseDatabaseWrapper) -> int:
    """Return how many bytes the rows of a statement may have on MariaDB."""
    connection.ensure_connection()
    driver: Any = connection.connection
    if driver not in _max_packets:
        with connection.wrap_database_errors, driver.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            _max_packets[driver] = int(cursor.fetchone()[0])
    return _max_packets[driver] - _OVERHEAD_BYTES


def _batches(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    parameters: Sequence[list[Any]],
) -> Iterator[Sequence[list[Any]]]:
    """
    Yield rows in batches that MariaDB accepts: a longer one ends the connection.

    Raises:
        DataError: a row is larger than any statement may be.
    """
    limit = _max_bytes(connection)
    max_rows = _MAX_PARAMETERS // len(parameters[0])
    batch: list[list[Any]] = []
    total = 0
    for row in parameters:
        size = 2 * sum(map(_byte_count, row))  # each character may be escaped
        if size > limit:
            size = sum(map(_escaped_byte_count, row))
        if size > limit:
            raise DataError(
                f"A row of {size} bytes for {model._meta.db_table} is larger than "
                f"MariaDB's max_allowed_packet lets a statement be ({limit} bytes)."
            )
        if batch and (total + size > limit or len(batch) == max_rows):
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += size
    yield batch


def _byte_count(value: Any) -> int:
    if not isinstance(value, str):
        return _MAX_PLAIN_BYTES
    return (len(value) if value.isascii() else len(value.encode())) + _QUOTES_BYTES


def _escaped_byte_count(value: Any) -> int:
    if not isinstance(value, str):
        return _MAX_PLAIN_BYTES
    return _byte_count(value) + sum(map(value.count, _MARIADB_ESCAPES))


def _arrays(
    connection: BaseDatabaseWrapper, model: type[models.Model], names: Sequence[str]
) -> str:
    types = [_field(model, name).db_type(connection) for name in names]
    return ", ".join(f"%s::{kind}[]" for kind in types)


def uses_copy() -> bool:
    """Tell whether `insert` uses COPY."""
    connection = primary.connection()
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
        # Piece by piece, so that the server works while the next piece is made.
        for start in range(0, len(rows), _COPY_ROWS):
            copy.write(_copy_text(model, names, rows[start : start + _COPY_ROWS]))


def _copy_text(
    model: type[models.Model], names: tuple[str, ...], rows: Sequence[Row]
) -> str:
    """Return rows in PostgreSQL's COPY text format."""
    writers = _copy_writers(model, names)
    lines = []
    for row in rows:
        if isinstance(row, FormattedRow) and row.names == names[: len(row.names)]:
            others = _copy_values(writers[len(row.names) :], row)
            lines.append("\t".join([row.text, *others] if row.names else others))
        else:
            lines.append("\t".join(_copy_values(writers, row)))
    lines.append("")
    return "\n".join(lines)


def _copy_values(writers: Iterable[_CopyWriter], row: Row) -> list[str]:
    return [r"\N" if row[name] is None else write(row[name]) for name, write in writers]


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
        # MariaDB has no alias for the new row, as MySQL does.
        update = ", ".join(f"{column} = VALUES({column})" for column in changed)
        return f"ON DUPLICATE KEY UPDATE {update}"
    target = ", ".join(quote(_column(model, name)) for name in names if name in key)
    update = ", ".join(f"{column} = excluded.{column}" for column in changed)
    return f"ON CONFLICT ({target}) DO UPDATE SET {update}"


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    field = model._meta.get_field(name)
    assert isinstance(field, models.Field)  # noqa: S101
    return field


def _primary_key(model: type[models.Model]) -> str:
    assert model._meta.pk is not None  # noqa: S101
    return str(model._meta.pk.column)


def _column(model: type[models.Model], name: str) -> str:
    return str(_field(model, name).column)


@cache
def _adapters(
    vendor: str,
    zone: str,
    has_uuid: bool,
    model: type[models.Model],
    names: tuple[str, ...],
) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    """Return each field's converter to the driver's values, or None if it needs none."""
    return tuple(
        (name, _adapter(vendor, zone, has_uuid, _field(model, name))) for name in names
    )


def _adapter(
    vendor: str, zone: str, has_uuid: bool, field: models.Field[Any, Any]
) -> Callable[[Any], Any] | None:
    if isinstance(field, models.UUIDField):
        # MariaDB has a type for UUIDs since 10.7, which Django uses.
        return str if has_uuid else _hex
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
) -> tuple[_CopyWriter, ...]:
    """Return each field's converter to PostgreSQL's COPY text format."""
    return tuple((name, _copy_writer(_field(model, name))) for name in names)


def _copy_writer(field: models.Field[Any, Any]) -> Callable[[Any], str]:
    if isinstance(field, models.ForeignKey):
        return _copy_writer(field.target_field)
    if isinstance(field, models.JSONField):
        text = _json_text(field)
        return lambda value: _escaped_json(text(value))
    if isinstance(field, models.DateTimeField):
        return datetime.isoformat
    if isinstance(field, models.BooleanField):
        return lambda value: "t" if value else "f"
    if isinstance(field, (models.DecimalField, models.IntegerField, models.UUIDField)):
        return str
    return _escaped


def _escaped(value: str) -> str:
    is_plain = value.isprintable() and "\\" not in value
    return value if is_plain else value.translate(_COPY_ESCAPES)


def _escaped_json(text: str) -> str:
    """Escape a text that is too long to look at each character in Python."""
    text = text.replace("\\", "\\\\")
    # JSON has these only between its parts, and then usually everywhere.
    for character, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        if character in text:
            text = text.replace(character, escape)
    return text


def _json_text(field: models.JSONField[Any, Any]) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if type(value) is JSONText:
            return value
        return exact_json.dumps(value) if value else _empty_json(value)

    return write


def _empty_json(value: Any) -> str:
    return "[]" if value == [] else exact_json.dumps(value)


def _hex(value: uuid.UUID) -> str:
    """Return a UUID as Django stores it if the database has no type for it."""
    return value.hex


def _plain_decimal(value: Decimal) -> str:
    return f"{value:f}"


def _naive_utc(value: datetime) -> str:
    """Return a UTC time as Django stores it in a database without time zones."""
    return value.replace(tzinfo=None).isoformat(" ")


def _naive_in(zone: ZoneInfo) -> Callable[[datetime], str]:
    def adapt(value: datetime) -> str:
        try:
            return _naive_utc(value.astimezone(zone))
        except OverflowError as err:
            raise DataError(f"{value} is outside the calendar of {zone}.") from err

    return adapt
