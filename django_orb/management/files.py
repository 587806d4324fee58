"""Define the options of commands that write a file, and write it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.exports import FORMATS
from django_orb.services import CsvStyle

from .printing import standard_output


def add_file_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="by default as the file's name ends, otherwise csv",
    )
    parser.add_argument(
        "--delimiter", choices=[",", ";"], default=",", help="between CSV columns"
    )
    parser.add_argument(
        "--decimal-comma", action="store_true", help="write 1234,50 (with ; only)"
    )
    parser.add_argument(
        "--bom",
        action="store_true",
        help="begin the CSV file with a byte order mark, which Excel needs",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file, which replaces an older one; by default standard output",
    )


def write_as_told(
    command: BaseCommand, write: Callable[..., int], options: Any, what: str
) -> None:
    """
    Let `write` write the file that the options ask for, and print how many rows it has.

    Raises:
        CommandError: no file was made, and why.
    """
    try:
        _write(command, write, options, what)
    except (OrbError, OrbConfigurationError) as err:
        raise CommandError(str(err)) from err
    except Error as err:
        raise CommandError(f"The mirror cannot be read: {err}") from err


def _write(
    command: BaseCommand, write: Callable[..., int], options: Any, what: str
) -> None:
    path = options["output"]
    ending = Path(path).suffix.lower().lstrip(".") if path else ""
    file = {
        "file_format": options["format"] or (ending if ending in FORMATS else "csv"),
        "style": CsvStyle(
            delimiter=options["delimiter"],
            decimal_comma=options["decimal_comma"],
            bom=options["bom"],
        ),
    }
    if path:
        count = write(output=path, **file)
        command.stdout.write(f"Wrote {count} {what} to {path}.")
        return
    if sys.stdout is None:
        raise CommandError("Standard output is closed: name a file with --output.")
    # An export that fails midway prints nothing.
    with _temporary_file() as whole:
        write(output=whole, **file)
        whole.seek(0)
        # Bytes, since a workbook is not a text, and `command.stdout` takes only texts.
        with standard_output():
            shutil.copyfileobj(whole, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _temporary_file() -> IO[bytes]:
    try:
        return TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)
    except OSError as err:
        raise CommandError(f"No temporary file can be made: {err}") from err
