from __future__ import annotations

from django.apps import AppConfig


class DjangoOrbConfig(AppConfig):
    name = "django_orb"
    verbose_name = "Orb billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401
