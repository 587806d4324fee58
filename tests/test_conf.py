from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
from django.test import override_settings

from django_orb.conf import (
    DEFAULT_BASE_URL,
    OrbSettings,
    api_key_problem,
    base_url_problem,
    get_settings,
    is_loopback,
)
from django_orb.exceptions import OrbConfigurationError


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("ORB_API_KEY", raising=False)
    monkeypatch.delenv("ORB_BASE_URL", raising=False)
    monkeypatch.delenv("ORB_WEBHOOK_SECRET", raising=False)


def test_without_settings_the_defaults_hold(settings):
    del settings.DJANGO_ORB

    assert get_settings() == OrbSettings(BASE_URL=DEFAULT_BASE_URL, WEBHOOK_SECRETS=[])


@pytest.mark.parametrize("name", [field.name for field in fields(OrbSettings)])
def test_each_setting_can_be_given(settings, name):
    given = object()
    settings.DJANGO_ORB = {name: given}

    assert getattr(get_settings(), name) is given


@pytest.mark.parametrize(
    ("name", "variable"), [("API_KEY", "ORB_API_KEY"), ("BASE_URL", "ORB_BASE_URL")]
)
@pytest.mark.parametrize("empty", [{}, {"API_KEY": "", "BASE_URL": None}])
def test_what_is_not_set_comes_from_the_environment(
    settings, monkeypatch, name, variable, empty
):
    monkeypatch.setenv(variable, "from the environment")

    settings.DJANGO_ORB = empty
    assert getattr(get_settings(), name) == "from the environment"

    settings.DJANGO_ORB = {name: "from the settings"}
    assert getattr(get_settings(), name) == "from the settings"


def test_the_secret_of_webhooks_comes_from_the_environment_too(settings, monkeypatch):
    monkeypatch.setenv("ORB_WEBHOOK_SECRET", "one")

    settings.DJANGO_ORB = {}
    assert get_settings().WEBHOOK_SECRETS == ["one"]

    settings.DJANGO_ORB = {"WEBHOOK_SECRETS": ["two"]}
    assert get_settings().WEBHOOK_SECRETS == ["two"]
    assert "two" not in repr(get_settings())


def test_a_change_of_the_settings_is_seen_at_once():
    with override_settings(DJANGO_ORB={"PAGE_SIZE": 7}):
        assert get_settings().PAGE_SIZE == 7
    with override_settings(DJANGO_ORB={"PAGE_SIZE": 8}):
        assert get_settings().PAGE_SIZE == 8


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("API_KEI", "Did you mean API_KEY"),
        ("api_key", "Known: API_KEY, BASE_URL"),
        (7, "Known: "),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known(settings, key, hint):
    settings.DJANGO_ORB = {key: 1}

    with pytest.raises(OrbConfigurationError) as caught:
        get_settings()
    assert repr(key) in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "sk-1"])
def test_settings_that_are_no_dict_are_refused(settings, value):
    settings.DJANGO_ORB = value

    with pytest.raises(OrbConfigurationError, match="must be a dict"):
        get_settings()


def test_settings_are_not_changed_and_do_not_show_the_key(settings):
    given = {"API_KEY": "sk-very-secret"}
    settings.DJANGO_ORB = given

    conf = get_settings()

    assert given == {"API_KEY": "sk-very-secret"}
    assert "sk-very-secret" not in repr(conf)
    with pytest.raises(FrozenInstanceError):
        conf.PAGE_SIZE = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("sk-1", ""),
        ("", "is empty"),
        (None, "is empty"),
        (7, "is not a string"),
        ("sk-1\n", "holds a space"),
        ("sk 1", "holds a space"),
        ("ské", "holds a space, a line break or a non-ASCII letter"),
    ],
)
def test_api_key_problems_are_named_without_the_key(key, problem):
    found = api_key_problem(key)

    assert found.startswith(problem)
    assert bool(found) == bool(problem)
    assert not key or str(key) not in found


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (DEFAULT_BASE_URL, ""),
        ("http://localhost:8000/v1", ""),
        ("http://[::1]:8000/v1", ""),
        (None, "is not a string"),
        ("", "is not an http or https address: ''"),
        ("withorb.com", "is not an http or https address: 'withorb.com'"),
        ("ftp://u:secret@x", "is not an http or https address"),
        ("https://[::1", "is not an http or https address"),
        ("https://x:99999", "is not an http or https address"),
        ("https://u:secret@x/v1", "has a user name, a query or a fragment"),
        ("https://@x/v1", "has a user name, a query or a fragment"),
        ("https://x/v1#y", "has a user name, a query or a fragment"),
        ("https://x/v1?y", "has a user name, a query or a fragment"),
        ("https://api.withorb.com/v1?", "has a user name, a query or a fragment"),
        ("https://api.withorb.com/v1#", "has a user name, a query or a fragment"),
        ("https://api.withorb.com/v1?#", "has a user name, a query or a fragment"),
    ],
)
def test_base_url_problems_are_named_without_a_password(url, problem):
    found = base_url_problem(url)

    assert found.startswith(problem)
    assert bool(found) == bool(problem)
    assert "secret" not in found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.1.2.3", True),
        ("http://[::1]/v1", True),
        ("http://localhost", True),
        ("http://LOCALHOST:1", True),
        ("http://orb.localhost", True),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost.example.org", False),
        ("http://10.0.0.1", False),
        ("https://api.withorb.com/v1", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_network(url, expected):
    assert is_loopback(url) is expected
