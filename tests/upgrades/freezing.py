"""
Keep the rows that a release writes, for later releases to be upgraded from.

`python -m tests.upgrades.freezing` writes `releases/<version>.json`: a step of every
release, since only its own code writes its rows. The file holds for each table the
values as texts, the names of the release's migrations, and the Orb that the rows
mirror. It fits every database, because it is loaded into the models of that state.
"""

from __future__ import annotations

import json
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from django.apps.registry import Apps
from django.core.serializers import sort_dependencies
from django.db import connections, models

import django_orb
from django_orb import __version__, exact_json
from django_orb.models.fields import PayloadField
from django_orb.testing import OrbSandbox
from tests.host_project import drive_project, write_project

FOLDER = Path(__file__).parent / "releases"
ROOT = Path(__file__).parent.parent.parent
INVOICES = 24
CREDIT_NOTE = {
    "id": "creditnote1",
    "credit_note_number": "CN-1",
    "memo": "One day without service.",
    "reason": "Order change",
    "total": "10.00",
    "type": "refund",
    "voided_at": None,
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{__version__}.json"
    with tempfile.TemporaryDirectory() as folder:
        path.write_text(freeze_here(Path(folder)))
    print(path)


def freeze_here(folder: Path) -> str:
    """Let this release fill a database. Return what a file of a release holds."""
    with OrbSandbox(invoices=INVOICES, seed=1) as sandbox:
        name = str(folder / "frozen.sqlite3")
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
        customer = sandbox.invoice(sandbox.invoice_ids("paid")[0])["customer"]["id"]
        sandbox.set_balance(customer, "20.00")
        sandbox.issue(sandbox.add_invoice(status="draft", customer_id=customer)["id"])
        sandbox.add_invoice(credit_notes=[CREDIT_NOTE])
        write_project(folder, sandbox, {"default": database})
        drive_project(folder, sandbox, path=str(ROOT), module="tests.upgrades.filling")
        sandbox.save(folder / "sandbox.json")
    found = json.loads((folder / "rows.json").read_text())
    found["orb"] = json.loads((folder / "sandbox.json").read_text())
    return json.dumps(found, indent=1) + "\n"


def dump() -> dict[str, Any]:
    """Return the migrations and rows of the database that the settings name."""
    from django.apps import apps

    return {"migrations": migrations(), "rows": rows_of(apps)}


def migrations() -> dict[str, str]:
    """Return the names of our migrations, each with a hash of its file."""
    folder = Path(django_orb.__file__).parent / "migrations"
    return {
        path.stem: sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("[0-9]*.py"))
    }


def rows_of(apps: Apps) -> dict[str, list[dict[str, str | None]]]:
    """Return per model its rows as texts, so that no value loses precision."""
    return {
        model.__name__: [
            {field.attname: text_of(field, row) for field in concrete(model)}
            for row in model._base_manager.order_by("pk")
        ]
        for model in ordered(apps)
    }


def ordered(apps: Apps) -> list[type[models.Model]]:
    """Return our models, each after those that it refers to."""
    config = apps.get_app_config("django_orb")
    found = [one for one in config.get_models() if not one._meta.proxy]
    return list(sort_dependencies([(config, found)]))


def concrete(model: type[models.Model]) -> list[Any]:
    return list(model._meta.concrete_fields)


def text_of(field: Any, row: models.Model) -> str | None:
    value = getattr(row, field.attname)
    if value is None:
        return None
    if isinstance(field, PayloadField):
        return exact_json.dumps(value)
    if isinstance(field, models.JSONField):
        return json.dumps(value)
    return str(field.value_to_string(row))


def value_of(field: Any, text: str | None) -> Any:
    if text is None:
        return None
    if isinstance(field, PayloadField):
        return exact_json.loads(text)
    if isinstance(field, models.JSONField):
        return json.loads(text)
    target = field.target_field if field.remote_field else field
    return target.to_python(text)


def thaw(rows: dict[str, list[dict[str, str | None]]], apps: Apps) -> None:
    """Write frozen rows through the models of the release that they come from."""
    connection = connections["default"]
    for name, found in rows.items():
        model = apps.get_model("django_orb", name)
        fields = {field.attname: field for field in concrete(model)}
        model._base_manager.bulk_create(
            model(**{key: value_of(fields[key], text) for key, text in row.items()})
            for row in found
        )
    tables = [apps.get_model("django_orb", name) for name in rows]
    with connection.cursor() as cursor:
        from django.core.management.color import no_style

        for sql in connection.ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(sql)


if __name__ == "__main__":
    main()
