from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from . import views

invoices = RedirectView.as_view(pattern_name="admin:django_orb_invoice_changelist")

urlpatterns = [
    path("", invoices),
    path("admin/", admin.site.urls),
    path("orb/", include("django_orb.urls")),
    path("my/invoices/", views.my_invoices, name="my-invoices"),
    path("my/invoices/<str:invoice_id>/", views.my_invoice, name="my-invoice"),
]
