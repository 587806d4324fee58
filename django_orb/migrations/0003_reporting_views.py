"""
Make the SQL views for reports.

Every later migration that changes tables begins with `drop_views()` and ends with
`make_views()`; see `models/reporting_views.py`.
"""

from django.db import migrations

from django_orb.models.reporting_views import make_views


class Migration(migrations.Migration):
    dependencies = [("django_orb", "0002_compress_payloads")]

    operations = [make_views()]
