from __future__ import annotations

from django.db import models


class Account(models.Model):
    """A customer of this product; Orb's invoices only have the id."""

    external_customer_id = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255, db_index=True)

    objects: models.Manager[Account] = models.Manager()

    def __str__(self) -> str:
        return self.name


class Access(models.Model):
    """Who may use the product, because they have paid for it."""

    external_customer_id = models.CharField(max_length=255, unique=True)
    granted_at = models.DateTimeField(auto_now_add=True)

    objects: models.Manager[Access] = models.Manager()

    class Meta:
        verbose_name_plural = "access"

    def __str__(self) -> str:
        return self.external_customer_id
