"""Run a function in another thread within the context of its caller."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections
from django.utils import translation

Result = TypeVar("Result")


def in_this_context(function: Callable[[], Result]) -> Callable[[], Result]:
    """
    Return a function that another thread may call as if it were this one.

    It has this thread's context variables (the current trace, for instance), its
    language, and the tenant of each connection as django-tenants keeps it: connections
    belong to threads, and a new one would use the public schema.
    """
    context = contextvars.copy_context()
    language = translation.get_language()  # Django ties it to the thread
    tenants: dict[str, Any] = {
        connection.alias: vars(connection).get("tenant")
        for connection in connections.all(initialized_only=True)
        if hasattr(connection, "set_tenant")
    }

    def call() -> Result:
        for alias, tenant in tenants.items():
            if tenant is not None:
                connection: Any = connections[alias]
                connection.set_tenant(tenant)
        with translation.override(language):
            return function()

    return lambda: context.run(call)
