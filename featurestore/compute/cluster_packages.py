"""Packages that only clusters need: imported where they are used, one line where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from featurestore.errors import DependencyMissing


def import_part(module: str) -> Any:
    """Import a module of the ``cluster`` extra.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyMissing(
            f"running on a cluster needs {module}: pip install 'featurestore-audio[cluster]'"
        ) from error
