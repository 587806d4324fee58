from __future__ import annotations

from django.http import HttpResponse
from django.urls import path

urlpatterns = [
    path("mine/<path:invoice_id>/", lambda *_, **__: HttpResponse(), name="mine")
]
