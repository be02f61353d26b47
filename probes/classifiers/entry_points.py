"""Classifiers of other packages, by entry point.

A package offers one in its ``pyproject.toml``::

    [project.entry-points."featurestore.classifiers"]
    ridge = "mypackage.probes:Ridge"

The value is a scikit-learn classifier class, whose parameters are the settings of a grid, or an object
that is a `probes.classifiers.registry.Classifier` itself.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from featurestore.errors import ConfigError
from probes.classifiers.interface import Classifier
from probes.classifiers.sklearn_estimators import Estimator

GROUP = "featurestore.classifiers"


def plugin_names() -> list[str]:
    """Names that installed packages offer, sorted."""
    return sorted(_offered(tuple(sys.path)))


def find_plugin(name: str) -> Classifier | None:
    """The classifier of an installed package by this name, if there is one.

    Raises:
        ConfigError: two packages offer it, or what is offered is no classifier.
    """
    found = sorted(_offered(tuple(sys.path)).get(name, ()), key=lambda point: point.value)
    if len(found) > 1:
        packages = " and ".join(_package(point) for point in found)
        raise ConfigError(
            f"classifier {name!r}: offered by {packages}; remove one, or give the import path "
            f"{found[0].value} or {found[1].value}"
        )
    return _load(found[0]) if found else None


def plugin_source(name: str) -> str:
    """What a plugin's name stands for, with the version of its package; "" where it is no plugin's."""
    found = _offered(tuple(sys.path)).get(name)
    return _source(found[0]) if found else ""


# The path names what can be found, so that a package installed meanwhile by another path is seen.
@lru_cache(maxsize=4)
def _offered(_path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    out: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        if point not in out.get(point.name, ()):
            out[point.name] = (*out.get(point.name, ()), point)
    return out


def _load(point: EntryPoint) -> Classifier:
    what = f"classifier {point.name!r} of {_package(point)}"
    try:
        found: Any = point.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{what}: cannot import {point.value} ({type(error).__name__}: {reason}); "
            "reinstall or remove the package"
        ) from error
    if isinstance(found, type) and hasattr(found, "predict") and hasattr(found, "get_params"):
        return Estimator(point.value, name=point.name, source=_source(point))
    if not isinstance(found, type) and all(hasattr(found, n) for n in ("seeded", "complete", "fit")):
        own: Classifier = found
        return own
    raise ConfigError(
        f"{what}: expected a scikit-learn classifier class or an object with seeded, complete and fit, "
        f"got {point.value}, which is {type(found).__name__}"
    )


def _source(point: EntryPoint) -> str:
    return f"{point.value} of {_package(point)}"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a package"
