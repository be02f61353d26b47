"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version


def describe(*packages: str) -> str:
    """One line: date, processor, cores, memory, versions."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if "model name" in line), model)
        with open("/proc/meminfo", encoding="utf-8") as file:
            memory = f"{int(file.readline().split()[1]) / 2**20:.0f} GiB"
    except (OSError, ValueError):
        memory = "unknown memory"
    names = ("numpy", "zarr", "h5py", *packages)
    versions = ", ".join(f"{n} {_version(n)}" for n in names)
    python = platform.python_version()
    return f"{date.today()}: {model}, {os.cpu_count()} cores, {memory}; Python {python}, {versions}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def peak_resident_bytes() -> int:
    """Most memory this process has held since its program began.

    Not `resource.getrusage`: a process that a large one started reports the peak of the one that started
    it, as Linux carries the value across fork and exec.
    """
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
