from __future__ import annotations

import inspect
import pickle
import re
from types import SimpleNamespace

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_orb import exceptions
from django_orb.exceptions import (
    OrbAPIError,
    OrbConfigurationError,
    OrbError,
    OrbInputError,
    OrbOutcomeUnknownError,
    OrbRefusedError,
    OrbSyncRunningError,
)

CLASSES = {
    name: value
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and value.__module__ == exceptions.__name__
}


def drawn_tree():
    """The tree at the top of the module, as pairs of class and parent."""
    parents: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)(Orb\w+)", line)
        if found:
            depth = len(found[1]) // 4
            parents[depth:] = [found[2]]
            yield found[2], parents[depth - 1] if depth else ""


def test_the_drawn_tree_is_the_real_one():
    drawn = dict(drawn_tree())

    assert drawn.pop("OrbError") == ""
    assert drawn.pop("OrbConfigurationError") == ""
    assert {name: CLASSES[name].__bases__[0].__name__ for name in drawn} == drawn
    assert {*drawn, "OrbError", "OrbConfigurationError"} == set(CLASSES)


def test_a_wrong_configuration_is_not_among_orbs_troubles():
    assert issubclass(OrbConfigurationError, ImproperlyConfigured)
    assert not issubclass(OrbConfigurationError, OrbError)


def test_an_input_error_is_a_value_error_that_names_its_field():
    error = OrbInputError("The name is empty.", field="name")

    assert isinstance(error, ValueError)
    assert (str(error), error.field) == ("The name is empty.", "name")


def test_an_api_error_has_a_list_of_validation_errors_always():
    error = OrbAPIError("No.", status_code=400)

    assert error.validation_errors == []
    assert (error.type, error.title, error.detail) == ("", "", "")
    assert (error.request_id, error.response) == (None, None)


def test_a_refusal_says_why():
    error = OrbRefusedError("the operation", "The invoice is paid.")

    assert str(error) == error.detail == "The invoice is paid."
    assert error.operation == "the operation"


def test_an_unknown_outcome_says_not_to_send_again():
    operation = SimpleNamespace(pk=7)
    error = OrbOutcomeUnknownError(operation)

    assert "operation 7" in str(error)
    assert "do not send it again" in str(error)
    assert error.operation is operation


def test_a_running_sync_is_at_hand():
    assert OrbSyncRunningError("Busy.", run=3).run == 3


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_says_what_it_is(name):
    assert CLASSES[name].__doc__
    assert name.endswith("Error")


def test_errors_survive_the_way_between_processes():
    """Celery and multiprocessing send errors as pickles."""
    for error in (
        OrbAPIError("No.", status_code=400, detail="d"),
        exceptions.OrbRateLimitError("Slow.", status_code=429, retry_after_seconds=3),
        exceptions.OrbServerError("Down.", status_code=503, retry_after_seconds=3),
        OrbInputError("Empty.", field="name"),
        OrbRefusedError(7, "Paid."),
        OrbOutcomeUnknownError(SimpleNamespace(pk=7)),
        OrbSyncRunningError("Busy.", run=3),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), str(error))
        assert vars(copy) == vars(error)


def test_a_404_of_a_route_is_not_taken_for_something_that_is_gone() -> None:
    assert not issubclass(exceptions.OrbURLNotFoundError, exceptions.OrbNotFoundError)
