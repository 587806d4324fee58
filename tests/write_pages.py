"""A process that writes overlapping pages: `python -m tests.write_pages OFFSET`."""

from __future__ import annotations

import sys

import django


def main(offset: int) -> None:
    from django_orb import mirror

    from .mirror.test_writing import at, page_of

    for number in range(offset, offset + 8):
        status = ["draft", "issued", "paid"][number % 3]
        page = page_of(60, 3, status=status)[offset * 5 :]
        page = page[:: -1 if number % 2 else 1]
        seen = mirror.read_page(page, at(number * 10, number * 10 + 5))
        mirror.write(seen)


if __name__ == "__main__":
    django.setup()
    main(int(sys.argv[1]))
