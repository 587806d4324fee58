"""Make paths of Orb's API, which know under which route metrics count them."""

from __future__ import annotations

import re
from urllib.parse import quote

from django_orb.exceptions import OrbInputError

_FIELD = re.compile(r"\{\w+\}")


class Path(str):
    """A path. Its route is the same for all ids, such as `/invoices/{id}/void`."""

    route: str


def path_to(template: str, **ids: str) -> Path:
    """
    Return the path for a template such as `/invoices/{invoice_id}/void`.

    Raises:
        OrbInputError: an id cannot be one of Orb's. Its `field` is the name here.
    """
    segments = {field: _segment(value, field) for field, value in ids.items()}
    path = Path(template.format(**segments))
    path.route = _FIELD.sub("{id}", template)
    return path


def is_id(value: str) -> bool:
    """Return whether a path can have the id. Dots would lead out of the template."""
    return value not in ("", ".", "..")


def _segment(value: str, field: str) -> str:
    """Encode an id as Orb's own SDK does."""
    if not is_id(value):
        raise OrbInputError(f"{value!r} is not an id in Orb.", field=field)
    return quote(value, safe="!$&'()*+,;=:@")
