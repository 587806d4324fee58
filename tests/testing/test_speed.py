"""
The sandbox must never be what a benchmark measures.

Processor time of the server is what is compared, so that whatever else runs on the
machine changes little: it is what one core of its own would take.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux"),
]
ALL = [("limit", "100")] + [
    ("status[]", status) for status in ("draft", "issued", "paid", "synced", "void")
]
CURSOR = re.compile(rb'"next_cursor":"([^"]+)"\}\}$')


class Server:
    def __init__(self, process, base_url):
        self._process = process
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc)

    def close(self):
        self._connection.close()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_megabytes(self):
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        assert peak is not None
        return int(peak[1]) / 1024

    def read_everything(self):
        """How many pages there were."""
        cursor, pages = None, 0
        while True:
            query = urlencode(ALL + ([("cursor", cursor)] if cursor else []))
            headers = {"Authorization": "Bearer sandbox-key"}
            self._connection.request("GET", f"/v1/invoices?{query}", headers=headers)
            body = self._connection.getresponse().read()
            pages += 1
            match = CURSOR.search(body[-300:])
            if match is None:
                return pages
            cursor = match[1].decode()


@contextmanager
def serving(invoices):
    command = [sys.executable, "-m", "django_orb.testing", "--invoices", str(invoices)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = Server(process, process.stdout.readline().strip())
        try:
            yield server
        finally:
            server.close()
            process.terminate()


def test_300_pages_of_100_invoices_a_second():
    with serving(10_000) as server:
        before = server.cpu_seconds()
        pages = sum(server.read_everything() for _ in range(5))
        rate = pages / (server.cpu_seconds() - before)
    assert pages == 500
    assert rate >= 300


def test_100_000_invoices_start_quickly_and_stay_small():
    started = time.monotonic()
    with serving(100_000) as server:
        seconds = time.monotonic() - started
        assert server.read_everything() == 1_000
        assert seconds < 10
        assert server.peak_megabytes() < 1_000
