"""Packages that a key was made with, and whether its values were compared under these versions.

Exactness is proved against transformers under every release in `COMPARED`. An earlier transformers gave other
hidden states (large HuBERT, wav2vec 2.0 and UniSpeech-SAT), silently; what later ones change is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version

from featurestore.errors import ConfigError
from featurestore.store.writer import package_versions

VERSIONED_PACKAGES = (
    "featurestore-audio", "torch", "transformers", "ai-edge-litert", "onnxruntime",
    "zarr", "soundfile", "soxr", "numpy",
)  # fmt: skip
# Package → first and last minor release under which the tests of exactness passed. The first is also the
# bound in pyproject.toml, which pip can be told to ignore.
COMPARED: Mapping[str, tuple[str, str]] = {"torch": ("2.13", "2.15"), "transformers": ("5.16", "5.24")}
# Name, among the versions of a key or unit, of what was later than that.
NOT_COMPARED = "not compared"
_MINOR = re.compile(r"(\d+)\.(\d+)")


def refuse_earlier() -> None:
    """Raise a `ConfigError` if a package is older than the first release that values were compared under."""
    for package, (first, last) in COMPARED.items():
        here = version(package)
        if _minor(here) < _minor(first):
            raise ConfigError(
                f"{package} {here} is installed, whose values were not compared; expected {first} to {last}: "
                f"pip install '{package}>={first}'"
            )


def later_packages() -> list[str]:
    """Package and version for those that are newer than the last release that values were compared under."""
    here = {package: version(package) for package in COMPARED}
    return [f"{p} {v}" for p, v in here.items() if _minor(v) > _minor(COMPARED[p][1])]


def later_note() -> list[str]:
    """A line for the user on `later_packages`; none where there are none."""
    later = later_packages()
    if not later:
        return []
    known = ", ".join(f"{p} {last}" for p, (_, last) in COMPARED.items())
    return [f"values were not compared with {' and '.join(later)}, only up to {known}; `fs info` shows that"]


def versions_here() -> dict[str, str]:
    """What is kept with a key and each of its units: versions, and `NOT_COMPARED` where that is so."""
    later = later_packages()
    return {**package_versions(VERSIONED_PACKAGES), **({NOT_COMPARED: ", ".join(later)} if later else {})}


def _minor(release: str) -> tuple[int, int]:
    found = _MINOR.match(release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
