"""Options that the weights of a model embedded a data set with, kept among the facts in ``_run.json``.

Facts are texts by name: ``<dataset>/weights`` is a digest of what the model is, ``<dataset>/<option>`` the
value of one option, such as ``imv/input.normalisation``. Names of data sets hold no slash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurestore.fingerprint import canonical_json, digest, flatten

_WEIGHTS = "weights"
INPUT = "input."
_ABSENT = "none"


def option_facts(dataset: str, fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """The facts of one key; none of a key whose fingerprint does not say what the model is."""
    model = fingerprint.get("model")
    if not model:
        return {}
    rest = {name: value for name, value in fingerprint.items() if name != "model"}
    texts = {k: v if isinstance(v, str) else canonical_json(v) for k, v in flatten(rest).items()}
    return {f"{dataset}/{name}": text for name, text in ({_WEIGHTS: digest(model)} | texts).items()}


def differing_options(a: Mapping[str, str], b: Mapping[str, str], dataset: str) -> dict[str, tuple[str, str]]:
    """Options with which the same weights embedded a data set twice, with both values.

    Args:
        a: Facts of a model.
        b: Those of another.
        dataset: The data set.

    Returns:
        Option → its values; empty where the weights are others, or not known, or nothing differs.
    """
    first, second = _of(a, dataset), _of(b, dataset)
    if first.pop(_WEIGHTS, "a") != second.pop(_WEIGHTS, "b"):
        return {}
    return {
        name: (first.get(name, _ABSENT), second.get(name, _ABSENT))
        for name in sorted(first.keys() | second.keys())
        if first.get(name, _ABSENT) != second.get(name, _ABSENT)
    }


def _of(facts: Mapping[str, str], dataset: str) -> dict[str, str]:
    begin = f"{dataset}/"
    return {name.removeprefix(begin): value for name, value in facts.items() if name.startswith(begin)}
