from __future__ import annotations

from django.urls import path

from . import views

app_name = "django_orb"
urlpatterns = [path("webhook/", views.webhook, name="webhook")]
