"""An extraction as the call of `fs extract` that makes the same key again, on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from extractors.config import ExtractConfig
from extractors.presets import PRESETS
from extractors.run.key_plan import KeyPlan
from featurestore.calls import Call, Slot, TableRecord, Word, full_path, option_words

# Options whose name is not that of their field.
OPTION_OF = {"normalisation": "--normalise", "short_policy": "--short-clips"}
# What names the key and is said anyway, and what decides only which machine does what, or how a key that is
# there already is gone on with: an empty store has nothing to replace or to look at again.
LEFT_OUT = {
    *("manifest", "dataset", "model", "store"),
    *("device", "cluster", "share", "workers", "batch_seconds", "selfcheck"),
    *("overwrite", "refresh"),
}
# Kinds of models whose argument may be a place.
_WITH_PLACES = ("untrained", "hear")


def extract_call(plan: KeyPlan, table: TableRecord) -> Call:
    """The call that makes the key of `plan` from `table`, alone: several models of a run are a call each."""
    words: list[Word] = ["extract", "--manifest", Slot.TABLE, "--dataset", plan.config.dataset]
    words += ["--model", model_word(plan), "--store", Slot.STORE, *option_words(_options(plan.config))]
    return Call(words=tuple(words), table=table)


def model_word(plan: KeyPlan) -> str:
    """What to give as ``--model`` in any folder."""
    spec = str(plan.request.model_card["given"]["model"])
    kind, colon, argument = spec.partition(":")
    if kind not in _WITH_PLACES or not colon:
        return spec
    *before, last = argument.split(":")
    place = Path(last).expanduser()
    return ":".join([kind, *before, full_path(place) if last and place.exists() else last])


def _options(config: ExtractConfig) -> Iterator[tuple[str, Any]]:
    """Options that are not left as they are, with the values of the command line."""
    by_preset = PRESETS[config.preset].options if config.preset else {}
    for field in fields(ExtractConfig):
        value = getattr(config, field.name)
        if field.name in LEFT_OUT or value in (field.default, by_preset.get(field.name, field.default)):
            continue
        option = OPTION_OF.get(field.name, f"--{field.name.replace('_', '-')}")
        yield option, ",".join(value) if isinstance(value, tuple) else value
