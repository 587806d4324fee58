from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence

# Up to this size, quick answers are worth a few more seconds at the start.
WARMED = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the sandbox until a signal stops it.

    Print its base URL, and on a second line how to use it.
    """
    options = parser().parse_args(arguments)
    try:
        from . import OrbSandbox
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with OrbSandbox(**vars(options)) as orb:
        if options.invoices <= WARMED:
            orb.warm()
        how = {"BASE_URL": orb.base_url, "API_KEY": orb.api_key}
        sys.stdout.write(
            f"{orb.base_url}\nThe API key is {orb.api_key!r}: set DJANGO_ORB = {how}\n"
        )
        sys.stdout.flush()
        # In steps, because a signal that another thread received does not end a wait.
        while not stopped.wait(0.5):
            pass
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m django_orb.testing",
        description="An Orb with a made-up account, on this machine.",
    )
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sandbox's options; the command `orb_sandbox` has them too."""
    parser.add_argument("--host", default="127.0.0.1")
    port = number(int, 65_535)
    parser.add_argument("--port", type=port, default=0, help="default: a free port")
    parser.add_argument("--invoices", type=number(int, 10_000_000), default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency-ms", type=number(float, 60_000), default=0)
    parser.add_argument("--api-key", default="sandbox-key")


def number(kind: Callable[[str], float], high: int) -> Callable[[str], float]:
    """Return a function that reads an option: a number from 0 to `high`."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not 0 <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to {high}")
        return value

    return read


if __name__ == "__main__":
    sys.exit(main())
