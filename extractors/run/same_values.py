"""The configuration that makes the very same values again, of other audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extractors.config import ExtractConfig
from extractors.forward.functionals import parse_functionals
from extractors.forward.windows import long_clips
from extractors.models.registry import find_model, runs_code
from extractors.run.key_plan import VALUE_OPTIONS, audio_policy, choose_functionals, fingerprint
from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch
from featurestore.fingerprint import diff
from featurestore.untrusted.document_shape import fields, many, nothing_or, number, text, whole, yes_or_no
from featurestore.untrusted.documents import DocumentError

# A configuration can differ everywhere; one line cannot hold it.
SHOWN_DIFFERENCES = 3
_TEXT = nothing_or(text)
_NAMED = ("dtype", "precision", "normalisation", "short_policy", "rate_policy", "resample_quality", "preset")
_GIVEN = fields(
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
_WANTED = fields(
    {},
    {
        "input": fields({}, {"normalisation": _TEXT}),
        "functionals": nothing_or(many(text)),
        **dict.fromkeys(("dtype", "precision"), _TEXT),
        "compiled": nothing_or(yes_or_no),
    },
)


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
    try:
        _WANTED(wanted, "extraction")
        _GIVEN(given, "given")
    except DocumentError as error:
        raise CorruptData(f"{name}: not the record of an extraction: {error}") from error
    audio = wanted.get("input", {})
    # Keys without `given` (imported ones): what their fingerprint says by itself.
    options = {
        "functionals": wanted.get("functionals"),
        "dtype": wanted.get("dtype"),
        "precision": wanted.get("precision"),
        "normalisation": audio.get("normalisation"),
        "compile": wanted.get("compiled"),
        **{k: v for k, v in given.items() if k in VALUE_OPTIONS},
    }
    functionals_made = options.pop("functionals")
    options["functionals"] = parse_functionals(",".join(functionals_made)) if functionals_made else None
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
    source = find_model(spec, allow_pickle=config.torch_weights)
    policy = audio_policy(config, source)
    windows = long_clips(source.card, config.window_s, config.overlap_s, config.preset)
    functionals = choose_functionals(config.functionals, source)
    made = fingerprint(config, source, policy, windows, functionals)
    # What both have says more than what only one has.
    differences = sorted(diff(wanted, made), key=lambda line: "(absent)" in line)
    if differences:
        shown = "; ".join(d.replace("requested", "here") for d in differences[:SHOWN_DIFFERENCES])
        more = len(differences) - SHOWN_DIFFERENCES
        raise FingerprintMismatch(
            f"--model {spec}: it would not make the embeddings that are wanted ({name}): {shown}"
            f"{f'; and {more} more' if more > 0 else ''}; give the model they were made with"
        )
    return config
