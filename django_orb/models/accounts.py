from __future__ import annotations

from django.db import models


class MirroredAccount(models.Model):
    """
    The one Orb account that this database mirrors.

    There is one row. The fingerprint tells keys apart without revealing them.
    """

    # A SHA-256 in hex of the key and the address, so a copy of the database holds no
    # key.
    fingerprint = models.CharField(max_length=64)
    confirmed_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Orb account confirmed at {self.confirmed_at:%Y-%m-%d %H:%M}"


class RequestBudget(models.Model):
    """When the next request of a kind may leave, whichever process sends it."""

    name = models.CharField(max_length=16, primary_key=True)
    # A time and not a count of requests: a process moves it on by as many turns as it
    # will need, and so asks the database once for all of them.
    next_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: not before {self.next_at}"
