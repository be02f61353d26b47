"""How much memory there is, and how a user says how much may be used."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from featurestore.errors import ConfigError

# Left for the system and for what nobody counts.
USABLE_SHARE = 0.8
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
# Limit, use and what it is used for, in a container or batch job: control groups version 2, then version 1.
_CGROUP = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def parse_bytes(text: str | int, what: str = "memory") -> int:
    """Bytes of ``1.5GB``, ``800 MiB`` or a plain number.

    Raises:
        ConfigError: not a size above 0.
    """
    found = _SIZE.fullmatch(str(text))
    size = int(float(found[1]) * _UNITS[(found[2] or "").lower()]) if found else 0
    if size <= 0:
        raise ConfigError(f"{what}: expected a size such as 1.5GB or 800MiB, got {text!r}")
    return size


def available_bytes() -> int:
    """Bytes that new work may take without pushing others out, within this process's container."""
    free = int(psutil.virtual_memory().available)
    for limit, use, stat in _CGROUP:
        try:
            held = int(Path(use).read_text()) - _reclaimable(Path(stat))
            free = min(free, int(Path(limit).read_text()) - held)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return max(0, free)


def _reclaimable(stat: Path) -> int:
    """Bytes of cached files that the system drops when memory is wanted."""
    lines = dict(line.split() for line in stat.read_text().splitlines())
    return int(lines.get("total_inactive_file", lines.get("inactive_file", 0)))


def resident_bytes() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def worker_bytes(n_workers: int = 1) -> int:
    """What each of `n_workers` processes of this machine may hold in all, unless somebody says otherwise."""
    return resident_bytes() + int(USABLE_SHARE * available_bytes() / n_workers)


def format_size(n_bytes: float) -> str:
    """``1.5 GB`` or ``640 MB``."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
