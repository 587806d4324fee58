"""Reasons why no file was made. They are translated where users read them."""

from __future__ import annotations

from django.utils.translation import gettext_noop

NOTHING = gettext_noop("Nothing matches, so there is nothing to export.")
NAMES_FAILED = gettext_noop("The names of customers could not be read.")
CANNOT_WRITE = gettext_noop("The file cannot be written.")
TOO_MANY_ROWS = gettext_noop(
    "An Excel workbook has room for 1,048,575 rows, and these are more. Choose CSV, or "
    "filter for fewer."
)
TOO_LARGE = gettext_noop(
    "An Excel workbook has room for 2 GB, and this is more. Choose CSV, fewer columns, or "
    "filter for fewer rows."
)
XLSX_MISSING = gettext_noop(
    'Excel workbooks need an extra on the server: pip install "django-orb[xlsx]"'
)
