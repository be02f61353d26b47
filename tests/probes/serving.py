"""`fs serve` in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.conftest import heed_ctrl_c

PATIENCE_S = 120.0


class Served:
    """A server that runs.

    Attributes:
        process: It.
        results: The folder.
        url: The address that it printed.
    """

    def __init__(self, process: subprocess.Popen[str], results: Path) -> None:
        self.process, self.results = process, results
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), (line, process.stderr and process.stderr.read())
        self.url = line.split()[0]
        self.port, self.path = urlsplit(self.url).port, urlsplit(self.url).path

    def ask(self, name: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
        """What comes back of a name behind the token, or of a whole path."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        path = name if name.startswith("/") else self.path + name
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response, text

    def found(self, name: str, **query: object) -> Any:
        """The JSON behind a name."""
        response, text = self.ask(f"{name}?{urlencode(query)}" if query else name)
        assert response.status == 200, text
        return json.loads(text)

    def wait(self, what: str) -> Any:
        """Wait until the state says that something is there."""
        until = time.monotonic() + PATIENCE_S
        while not (state := self.found("state"))[what]:
            assert time.monotonic() < until, state
            time.sleep(0.1)
        return state

    def interrupt(self) -> tuple[int, str]:
        """End it by Ctrl-C: exit code, and what it said on standard error."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@contextmanager
def served(results: Path, *options: str) -> Iterator[Served]:
    """Serve a results folder."""
    command = [sys.executable, "-m", "cli", "serve", str(results), *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        preexec_fn=heed_ctrl_c,
    )
    try:
        yield Served(process, results)
    finally:
        process.kill()
        process.communicate()
