from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DjangoOrbConfig(AppConfig):
    name = "django_orb"
    verbose_name = _("Orb billing")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, metrics  # noqa: F401

        if names := metrics.enabled_names():
            from .status import gauges  # brings half of the package along

            gauges.register(names)
