"""How the embeddings were made, in words, from the attributes of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featurestore.fingerprint import digest, flatten
from featurestore.layer_list import format_layers
from featurestore.printable import counted
from probes.report.methods.references import TOOLS, model_keys
from probes.report.methods.wording import cite, name, names

# Of a model's fingerprint these are said in words of their own.
_SAID = ("family", "weights_sha256", "untrained", "config", "preprocessor", "state_sha256")
# Of its input likewise.
_HEARD = (
    "sample_rate_hz",
    "channels",
    "resampler",
    "normalisation",
    "short_clips",
    "long_clips",
    "preset",
)
_NORMALISATIONS = {
    "none": "not normalised",
    "peak": "divided by their largest magnitude",
    "zero-mean-unit-variance": "brought to zero mean and unit variance, clip by clip",
}


def sentences(records: Mapping[str, Mapping[str, Any]], rates: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """What was embedded, by which models, from what audio, and what is kept.

    Args:
        records: Key (``model/dataset``) to `probes.results.extractions.extraction_record`.
        rates: Key to the native rates of its files in Hz, where they are known.
    """
    for held, paths in _grouped(records, lambda _, r: _held(r)).items():
        yield f"{names(paths)} {'holds' if len(paths) == 1 else 'each hold'} embeddings of {held}."
    yield from dict.fromkeys(_model(path, record) for path, record in records.items())
    for heard, paths in _grouped(records, lambda p, r: f"{_native(rates.get(p))} {_input(r)}").items():
        yield f"For {names(paths)}, {heard}"
    for kept, paths in _grouped(records, lambda _, r: _kept(r)).items():
        yield f"For {names(paths)}, {kept}"
    for made, paths in _grouped(records, lambda _, r: _made_on(r)).items():
        yield f"{made} ({names(paths)})."


def _grouped(records: Mapping[str, Mapping[str, Any]], words: Any) -> dict[str, list[str]]:
    """Keys of which the same is to be said."""
    found: dict[str, list[str]] = {}
    for path, record in records.items():
        found.setdefault(words(path, record), []).append(path)
    return found


def _held(record: Mapping[str, Any]) -> str:
    n, failed = int(record["n_utterances"]), int(record["n_failed"])
    lost = f"; {counted(failed, 'other')} could not be used and {'is' if failed == 1 else 'are'} left out"
    hours = float(record["audio_s"]) / 3600
    return f"{counted(n - failed, 'clip')}, {hours:.4g} hours of audio{lost if failed else ''}"


def _model(path: str, record: Mapping[str, Any]) -> str:
    model, card = record["fingerprint"].get("model", {}), record["model_card"]
    known = model.get("family") or card.get("family")
    family = f", of the family {name(known)}" if known else ""
    given = card.get("given", {}).get("model")
    asked = f", asked for as {name(given)}" if given else ""
    said = [f"{name(path.partition('/')[0])}{family}{asked}"]
    if card.get("model_id"):
        said.append(f"known as {name(card['model_id'])}")
    if card.get("domain"):
        said.append(f"pre-trained on {name(card['domain'])}")
    if card.get("fine_tuning"):
        said.append(f"fine-tuned for {name(card['fine_tuning'])}")
    for weights in ("weights_sha256", "state_sha256"):
        if weights in model:
            said.append(f"weights of SHA-256 {name(model[weights])}")
    if "untrained" in model:
        said.append(f"untrained weights ({name(_pairs(model['untrained']))})")
    for part in ("config", "preprocessor"):
        if model.get(part):
            said.append(f"{part} of SHA-256 {name(digest(model[part]))}")
    rest = {k: v for k, v in model.items() if k not in _SAID}
    if rest:
        said.append(name(_pairs(rest)))
    shape = f"{counted(int(card['n_layers']), 'hidden state')} of " if card.get("n_layers") else ""
    said.append(f"{shape}{counted(int(record['n_features']), 'feature')}")
    return f"The model is {'; '.join(said)}{cite(*model_keys(card.get('source')))}."


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in flatten(values).items())


def _native(rates: Sequence[int] | None) -> str:
    if not rates:
        return "the native rates of the files are not on record."
    shown = ", ".join(f"{rate:,}" for rate in rates[:10]) + (" and others" if len(rates) > 10 else "")
    return f"the files are at {shown} Hz."


def _input(record: Mapping[str, Any]) -> str:
    heard = record["fingerprint"].get("input")
    if not heard:
        return "How audio was prepared is not on record."
    rate, resampler = heard.get("sample_rate_hz"), str(heard.get("resampler"))
    said = [f"Channels: {name(heard.get('channels'))}."]
    if resampler.startswith("none"):
        said.append(f"Their samples were read as if at {rate:,} Hz ({name(resampler)}).")
    else:
        said.append(
            f"Where they are at another rate they were resampled to {rate:,} Hz by {name(resampler)}."
        )
    normalised = str(heard.get("normalisation"))
    said.append(f"Waveforms were {_NORMALISATIONS.get(normalised, 'prepared')} ({name(normalised)}).")
    said.append(f"Short clips: {name(heard.get('short_clips'))}.")
    said.append(f"Long clips: {name(heard.get('long_clips'))}.")
    if heard.get("preset"):
        said.append(f"This is the preset {name(heard['preset'])}{cite('sarkar2025')}.")
    rest = {k: v for k, v in heard.items() if k not in _HEARD}
    return " ".join(said) + (f" Also: {name(_pairs(rest))}." if rest else "")


def _kept(record: Mapping[str, Any]) -> str:
    fingerprint = record["fingerprint"]
    layers = name(format_layers(list(record["layers"])))
    spread = ", the standard deviation unbiased (n - 1)" if "std" in record["functionals"] else ""
    compiled = ", compiled" if fingerprint.get("compiled") else ""
    functionals = names(record["functionals"])
    kept = (
        f"one vector per clip, as the model gives it ({functionals}), of layers {layers} is kept"
        if record["model_card"].get("pooled")
        else f"the {functionals} over the valid frames of layers {layers} are kept{spread}"
    )
    return (
        f"{kept}, stored as {name(record['dtype'])}; the forward pass was in "
        f"{name(fingerprint.get('precision'))}{compiled}, with version "
        f"{name(fingerprint.get('numerics_version'))} of our numerics."
    )


def _made_on(record: Mapping[str, Any]) -> str:
    made = record.get("made_on") or {k: [v] for k, v in record["versions"].items()}
    shown = [f"{name(package)} {names(versions)}" for package, versions in made.items()]
    tools = [key for package, key in TOOLS.items() if package in made]
    return f"Embeddings were made with {', '.join(shown)}{cite(*tools)}"


def is_whole(record: Any) -> bool:
    """Whether a record, which may be anybody's, holds what is said here."""
    try:
        made = {**record, "made_on": record.get("made_on", {})}
        [*sentences({"model/data": made}, {})]
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True
