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

    Until then it has a hidden name in the same folder, and an older file keeps the name.
    If an exception ends the block, the new file is removed.

    Raises:
        OrbExportError: the file cannot be written.
    """
    # A symbolic link stays, and its target is replaced.
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    # File systems limit the bytes of a name, not its characters.
    begin = name.encode(errors="ignore")[:100].decode(errors="ignore")
    # In the same folder, since a file can replace another in one step only within one
    # file system.
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
