"""The same key again: the call of `fs extract` that makes it, and the configuration for other audio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from extractors.config import ExtractConfig
from extractors.forward.functionals import parse_functionals
from extractors.models.registry import find_model, runs_code
from extractors.presets import PRESETS, option_name
from extractors.run.plan import KeyPlan
from extractors.run.recipe import VALUE_OPTIONS, Recipe
from featurestore.calls import Call, Slot, TableRecord, Word, option_words
from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch
from featurestore.fingerprint import diff
from featurestore.untrusted.document_shape import fields as named
from featurestore.untrusted.document_shape import many, nothing_or, number, text, whole, yes_or_no
from featurestore.untrusted.documents import DocumentError

# What names the key and is said anyway, and what decides only which machine does what, or how a key that is
# there already is gone on with: an empty store has nothing to replace or to look at again.
LEFT_OUT = {
    *("manifest", "dataset", "model", "store"),
    *("device", "cluster", "share", "workers", "decode", "batch_seconds", "selfcheck"),
    *("overwrite", "refresh"),
}
# A configuration can differ everywhere; one line cannot hold it.
SHOWN_DIFFERENCES = 3
_TEXT = nothing_or(text)
_NAMED = (
    *("dtype", "precision", "normalisation", "short_policy", "rate_policy", "resample_quality"),
    *("segments", "preset"),
)
_GIVEN = named(
    {},
    {
        "model": text,
        "functionals": nothing_or(many(text)),
        **dict.fromkeys(_NAMED, _TEXT),
        "min_samples": nothing_or(whole()),
        "channel": _TEXT,
        **dict.fromkeys(("window_s", "overlap_s"), nothing_or(number())),
        "compile": nothing_or(yes_or_no),
    },
)
_WANTED = named(
    {},
    {
        "input": named({}, {"normalisation": _TEXT}),
        "functionals": nothing_or(many(text)),
        **dict.fromkeys(("dtype", "precision"), _TEXT),
        "compiled": nothing_or(yes_or_no),
    },
)


def extract_call(plan: KeyPlan, table: TableRecord) -> Call:
    """The call that makes the key of `plan` from `table`, alone: several models of a run are a call each."""
    config = plan.recipe.config
    words: list[Word] = ["extract", "--manifest", Slot.TABLE, "--dataset", config.dataset]
    # As it was named, in any folder: see `lasting_spec`.
    model = str(plan.request.model_card["given"]["model"])
    words += ["--model", model, "--store", Slot.STORE, *option_words(_options(config))]
    return Call(words=tuple(words), table=table)


def _options(config: ExtractConfig) -> Iterator[tuple[str, Any]]:
    """Options that are not left as they are, with the values of the command line."""
    by_preset = PRESETS[config.preset].options if config.preset else {}
    for field in fields(ExtractConfig):
        value = getattr(config, field.name)
        if field.name in LEFT_OUT or value in (field.default, by_preset.get(field.name, field.default)):
            continue
        yield option_name(field.name), ",".join(value) if isinstance(value, tuple) else value


def same_extraction(
    wanted: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    manifest: Path,
    store: str,
    dataset: str,
    name: str,
    layers: str,
    model: str | None = None,
    **machine: Any,
) -> ExtractConfig:
    """How to embed `manifest` as the embeddings with the fingerprint `wanted` were made.

    No weights are loaded, but they are read once for their hash.

    Args:
        wanted: fingerprint of the key whose values are wanted.
        given: what the key was made with: `given` of its model card, where it has one.
        manifest: what to embed.
        store: where to.
        dataset: name of the data set there.
        name: name of the model there.
        layers: layers to keep, e.g. ``3`` or ``0-12``.
        model: where the model is now; default: where it was.
        machine: options of `ExtractConfig` that decide no values: device, workers, torch_weights.

    Raises:
        FingerprintMismatch: this model, or this version of the code, would make other values; one line
            with the first differences.
        ModelError: there is no such model.
        CorruptData: `wanted` or `given` is not what `fs extract` records.
        ConfigError: the model is code that `given` names, and `model` does not.
    """
    options = _recorded(wanted, given, name)
    spec = str(model or given.get("model", ""))
    if not model and runs_code(spec):
        # What names it came with the probe or the store, from whoever made that.
        raise ConfigError(
            f"{name} was embedded by {spec!r}, whose code would be run here; if that is what you want, say "
            f"so: --model {spec}"
        )
    config = ExtractConfig(
        manifest=manifest,
        dataset=dataset,
        model=spec,
        store=store,
        name=name,
        layers=layers,
        **{k: v for k, v in {**options, **machine}.items() if v is not None},
    )
    made = _fingerprint_here(config, name)
    _require_same(wanted, made, spec, name)
    return config


def _fingerprint_here(config: ExtractConfig, name: str) -> Mapping[str, Any]:
    """What embeddings under a configuration would be told by; see `same_extraction`.

    Raises:
        FingerprintMismatch: the model cannot be used in this way.
    """
    source = find_model(config.model, allow_pickle=config.torch_weights)
    try:
        return Recipe.of(config, source).fingerprint()
    except ConfigError as error:  # of options that nobody gave here
        raise FingerprintMismatch(
            f"--model {config.model}: it would not make the embeddings that are wanted ({name}): it cannot "
            f"be used as they were made ({error}); give the model they were made with"
        ) from None


def _recorded(wanted: Mapping[str, Any], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options of `ExtractConfig` that decide values, as a key records them; see `same_extraction`."""
    try:
        _WANTED(wanted, "extraction")
        _GIVEN(given, "given")
    except DocumentError as error:
        raise CorruptData(f"{name}: not the record of an extraction: {error}") from error
    # Keys without `given` (imported ones): what their fingerprint says by itself.
    options = {
        "functionals": wanted.get("functionals"),
        "dtype": wanted.get("dtype"),
        "precision": wanted.get("precision"),
        "normalisation": wanted.get("input", {}).get("normalisation"),
        "compile": wanted.get("compiled"),
        **{k: v for k, v in given.items() if k in VALUE_OPTIONS},
    }
    kept = options["functionals"]
    return {**options, "functionals": parse_functionals(",".join(kept)) if kept else None}


def _require_same(wanted: Mapping[str, Any], made: Mapping[str, Any], spec: str, name: str) -> None:
    # What both have says more than what only one has.
    differences = sorted(diff(wanted, made), key=lambda line: "(absent)" in line)
    if differences:
        shown = "; ".join(d.replace("requested", "here") for d in differences[:SHOWN_DIFFERENCES])
        more = len(differences) - SHOWN_DIFFERENCES
        raise FingerprintMismatch(
            f"--model {spec}: it would not make the embeddings that are wanted ({name}): {shown}"
            f"{f'; and {more} more' if more > 0 else ''}; give the model they were made with"
        )
