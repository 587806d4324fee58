from __future__ import annotations

from datetime import datetime, timezone

import orb as orb_sdk
import pytest
import requests

from django_orb.testing import OrbSandbox

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=timezone.utc)


@pytest.fixture(scope="session")
def account():
    """A larger account that no test changes."""
    with OrbSandbox(invoices=600, seed=7, now=NOW) as sandbox:
        yield sandbox


@pytest.fixture
def orb():
    with OrbSandbox(invoices=60, seed=3, now=NOW) as sandbox:
        yield sandbox


@pytest.fixture
def api(orb):
    with Api(orb) as api:
        yield api


@pytest.fixture
def sdk(orb):
    with make_sdk(orb) as client:
        yield client


def make_sdk(sandbox, **options):
    return orb_sdk.Orb(
        api_key=options.pop("api_key", sandbox.api_key),
        base_url=sandbox.base_url,
        # Loading certificates for each client would take longer than the tests.
        http_client=orb_sdk.DefaultHttpxClient(verify=False),
        max_retries=0,
        _strict_response_validation=True,
        **options,
    )


class Api(requests.Session):
    """`requests` with the sandbox's address and key."""

    def __init__(self, sandbox):
        super().__init__()
        self.trust_env = False
        self.base_url = sandbox.base_url
        self.headers["Authorization"] = f"Bearer {sandbox.api_key}"

    def request(self, method, url, **options):  # type: ignore[override]
        options.setdefault("timeout", 10)
        return super().request(method, self.base_url + url, **options)

    def all_pages(self, **params):
        pages, cursor = [], None
        while True:
            page = self.get("/invoices", params=params | {"cursor": cursor}).json()
            pages.append(page)
            cursor = page["pagination_metadata"]["next_cursor"]
            assert page["pagination_metadata"]["has_more"] is (cursor is not None)
            if cursor is None:
                return pages

    def all_invoices(self, **params):
        return [i for page in self.all_pages(**params) for i in page["data"]]
