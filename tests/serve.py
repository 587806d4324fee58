"""The project's endpoint as a process of its own: `python -m tests.serve`."""

from __future__ import annotations

from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from werkzeug.serving import WSGIRequestHandler, make_server

from .celery_app import app


class QuietHandler(WSGIRequestHandler):
    def log_request(self, *args: object, **kwargs: object) -> None:
        """Thousands of lines that nobody reads."""


def wsgi() -> Any:
    app.set_default()
    return get_wsgi_application()


def asgi() -> Any:
    app.set_default()
    return get_asgi_application()


def main() -> None:
    server = make_server(
        "127.0.0.1", 0, wsgi(), threaded=True, request_handler=QuietHandler
    )
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
