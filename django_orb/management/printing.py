"""Print to a standard output that may be closed, full, or no longer read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper

#: What shells report of a program whose reader left, such as `head`: 128 and SIGPIPE.
READER_LEFT = 141


class PrintingCommand(BaseCommand):
    """A command that ends in a sentence, or quietly, if it cannot print."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        # One that the caller gave, such as a test, is the caller's.
        if options.get("stdout") is None and _is_standard(self.stdout):
            self.stdout = _Stdout(sys.stdout)
        return super().execute(*args, **options)


def _is_standard(stream: OutputWrapper) -> bool:
    return getattr(stream, "_out", None) is sys.stdout


class _Stdout(OutputWrapper):
    """Standard output that writes at once: at the end errors would become tracebacks."""

    def write(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        # Without a standard output Python's own `print` says nothing, either.
        if sys.stdout is None:
            return
        with standard_output():
            super().write(*args, **kwargs)
            self.flush()


@contextmanager
def standard_output() -> Iterator[None]:
    """
    Let the block write to standard output.

    Raises:
        CommandError: it cannot be written, and why.
        SystemExit: its reader has gone.
    """
    try:
        yield
    except BrokenPipeError:
        _forget_the_rest()
        sys.exit(READER_LEFT)
    except OSError as err:
        _forget_the_rest()
        raise CommandError(f"Standard output cannot be written: {err}") from err


def _forget_the_rest() -> None:
    """Drop what is buffered, which Python would write once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
