"""Hosts of a network on one machine: Linux network namespaces on a bridge, each of which can be cut off."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NETWORK = "10.213.77"
HERE = f"{NETWORK}.1"  # the host that starts the others


class Network:
    """A bridge with hosts; this process stands at `HERE`."""

    def __init__(self, n_hosts: int) -> None:
        # Names of interfaces have 15 characters at most.
        self.tag = f"fs{secrets.token_hex(2)}"
        self.hosts = {f"{self.tag}h{i}": f"{NETWORK}.{i + 2}" for i in range(n_hosts)}

    def make(self) -> None:
        """Raises CalledProcessError where this machine does not allow it."""
        bridge = self.tag
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{HERE}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for host, address in self.hosts.items():
            ip("netns", "add", host)
            ip("link", "add", f"{host}o", "type", "veth", "peer", "name", f"{host}i")
            ip("link", "set", f"{host}o", "master", bridge, "up")
            ip("link", "set", f"{host}i", "netns", host)
            inside = ("-n", host)
            ip(*inside, "addr", "add", f"{address}/24", "dev", f"{host}i")
            ip(*inside, "link", "set", f"{host}i", "up")
            ip(*inside, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Take away what `make` made of it."""
        for host in self.hosts:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", host)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self.tag)

    def cut_off(self, host: str) -> None:
        """Pull the cable: nothing comes in or goes out, and nobody is told."""
        ip("link", "set", f"{host}o", "down")

    def start(self, host: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """A process on that host, under a host name of its own."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, *command]
        return subprocess.Popen(["ip", "netns", "exec", host, *named], text=True, **options)


@contextlib.contextmanager
def network(n_hosts: int) -> Iterator[Network]:
    """A network of so many hosts, gone when the context ends."""
    made = Network(n_hosts)
    try:
        made.make()
        yield made
    finally:
        made.remove()


def why_not() -> str | None:
    """Why no network can be made here; None where one can."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        return "needs root, ip (iproute2) and unshare (util-linux)"
    try:
        with network(1):
            return None
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"


def ip(*words: str) -> None:
    """One call of ``ip``."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, and more."""
    return {**os.environ, **more}
