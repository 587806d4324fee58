"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from django_orb.exceptions import OrbExportError

from .texts import CANNOT_WRITE


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """
    Open a file that takes its name only once it is complete.

    Until then it lies beside it under a hidden name, and what had the name before is
    left alone. It is removed if an exception ends the block.

    Raises:
        OrbExportError: the file cannot be written.
    """
    # A link stays one, and what it leads to is replaced.
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    # File systems limit the bytes of a name, not its characters.
    begin = name.encode(errors="ignore")[:100].decode(errors="ignore")
    # In the same folder: only within one file system is a file given its name in one
    # step.
    part = os.path.join(folder, f".{begin}.{uuid.uuid4().hex}.part")
    try:
        # A device or a pipe, such as /dev/stdout, would be replaced by a file.
        if os.path.exists(target) and not os.path.isfile(target):
            raise OSError(f"{target} is not a file.")
        with open(part, "xb") as stream:
            try:
                yield stream
                stream.flush()
                # Otherwise the name could lead to an empty file after a power failure.
                os.fsync(stream.fileno())
                os.replace(part, target)
            except BaseException:
                os.unlink(part)
                raise
    except OSError as err:
        raise OrbExportError(CANNOT_WRITE, detail=str(err)) from err
