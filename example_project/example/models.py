from __future__ import annotations

from django.db import models


class Account(models.Model):
    """A customer of this product; Orb's invoices have only the id."""

    external_customer_id = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255, db_index=True)

    objects: models.Manager[Account] = models.Manager()

    def __str__(self) -> str:
        return self.name


class Access(models.Model):
    """A customer's right to use the product, given once they have paid."""

    external_customer_id = models.CharField(max_length=255, unique=True)
    granted_at = models.DateTimeField(auto_now_add=True)

    objects: models.Manager[Access] = models.Manager()

    class Meta:
        verbose_name_plural = "access"

    def __str__(self) -> str:
        return self.external_customer_id
