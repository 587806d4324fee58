"""
A check for django-health-check: `django_orb.status.health.OrbMirror`.

It is imported by whoever names it, and needs the extra `health`.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

try:
    from health_check.base import HealthCheck
    from health_check.exceptions import ServiceUnavailable
except ImportError as err:
    raise ImportError(
        'The health check needs its extra: pip install "django-orb[health]"'
    ) from err

from django.db import Error

from django_orb.db import primary

from .findings import Verdict
from .report import read_status


@dataclasses.dataclass
class OrbMirror(HealthCheck):  # type: ignore[misc]
    """
    Unhealthy if something is failing, and with `strict` also at a warning.

    Orb is asked only with `ask_orb`. The texts quote neither Orb nor errors, since such
    pages are often public.
    """

    ask_orb: bool = False
    strict: bool = False
    timeout: timedelta = dataclasses.field(default=timedelta(seconds=45), repr=False)

    def run(self) -> None:
        connection = primary.connection()
        was_open = connection.connection is not None
        try:
            report = read_status(ask_orb=self.ask_orb)
        except Error as err:
            raise ServiceUnavailable("The mirror cannot be read.") from err
        finally:
            if not was_open:  # the thread is the check's own
                connection.close()
        bad = report.of_verdict(Verdict.FAILING)
        if self.strict:
            bad += report.of_verdict(Verdict.WARNING)
        if bad:
            words = [f"{finding.title}: {finding.summary}" for finding in bad]
            raise ServiceUnavailable(" ".join(words))
