from __future__ import annotations

from django.contrib import admin

from .models import Access, Account


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "external_customer_id")
    search_fields = ("name",)


@admin.register(Access)
class AccessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("external_customer_id", "granted_at")
