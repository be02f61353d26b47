"""Formats by name; a module is imported only when its format is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from featurestore.errors import ConfigError

if TYPE_CHECKING:
    from featurestore.exchange.interface import Format

_FORMATS = ("hdf5", "parquet", "npz", "hear")
_READABLE = ("hdf5", "npz")


def format_names(*, readable: bool = False) -> tuple[str, ...]:
    """Names that `export` takes, or with `readable` those that `import_` takes."""
    return _READABLE if readable else _FORMATS


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _FORMATS:
        raise ConfigError(f"no format {name!r}; expected one of {', '.join(_FORMATS)}")
    found: Format = getattr(import_module(f"featurestore.exchange.{name}"), name.upper())
    return found
