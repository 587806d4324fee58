from __future__ import annotations

from django.db import models


class MirroredAccount(models.Model):
    """
    The one Orb account that this database mirrors.

    There is one row. The fingerprint tells keys apart without revealing them.
    """

    fingerprint = models.CharField(max_length=64)
    confirmed_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Orb account confirmed at {self.confirmed_at:%Y-%m-%d %H:%M}"


class RequestBudget(models.Model):
    """When the next request of a kind may leave, whichever process sends it."""

    name = models.CharField(max_length=16, primary_key=True)
    next_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: not before {self.next_at}"
