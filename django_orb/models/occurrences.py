from __future__ import annotations

from django.db import models


class LastOccurrence(models.Model):
    """
    When something last happened that no other row records.

    There is one row for each scheduled task, and two for refused webhooks.
    """

    name = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()
    detail = models.TextField(
        blank=True, help_text="Why it failed or was refused; empty if it went well."
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%Y-%m-%d %H:%M}"
