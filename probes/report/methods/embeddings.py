"""How the embeddings were made, in words, from the attributes of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
_OF_CARD = {"model_id": "known as", "domain": "pre-trained on", "fine_tuning": "fine-tuned for"}
# What no option is.
_NONE = object()
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
    yield from _models(records)
    for heard, paths in _grouped(records, lambda p, r: f"{_native(rates.get(p))} {_input(r)}").items():
        yield f"For {names(paths)}, {heard}"
    for kept, paths in _grouped(records, lambda _, r: _kept(r)).items():
        yield f"For {names(paths)}, {kept}"
    for made, paths in _grouped(records, lambda _, r: _made_on(r)).items():
        yield f"{made} ({names(paths)})."
    for path, record in records.items():
        checks = [name(check) for check in record.get("checks", ())]
        if checks:
            yield f"Checked ({name(path)}): {'; '.join(checks)}."


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


@dataclass(frozen=True)
class _ModelFacts:
    """What is to be said of a model: facts in words, and its other options, name to value."""

    words: Mapping[str, str]
    options: Mapping[str, Any]

    def text(self) -> str:
        """All of it, "" of nothing."""
        options = [name(", ".join(f"{k} {v}" for k, v in self.options.items()))] if self.options else []
        return "; ".join([*self.words.values(), *options])

    def shared(self, others: Sequence[_ModelFacts]) -> _ModelFacts:
        """What holds for all others too."""
        return _ModelFacts(
            {k: v for k, v in self.words.items() if all(o.words.get(k) == v for o in others)},
            {k: v for k, v in self.options.items() if all(o.options.get(k, _NONE) == v for o in others)},
        )

    def without(self, said: _ModelFacts) -> _ModelFacts:
        """What is left to say."""
        return _ModelFacts(
            {k: v for k, v in self.words.items() if k not in said.words},
            {k: v for k, v in self.options.items() if k not in said.options},
        )


def _models(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the models are: of those of one family what they share once, then what is each one's own."""
    families: dict[tuple[str, tuple[str, ...]], dict[str, _ModelFacts]] = {}
    for path, record in records.items():
        model, card = record["fingerprint"].get("model", {}), record["model_card"]
        family = str(model.get("family") or card.get("family") or "")
        members = families.setdefault((family, tuple(model_keys(card.get("source")))), {})
        facts, model_name = _facts(record), path.partition("/")[0]
        # One model may be embedded otherwise for another data set.
        members[model_name if members.get(model_name, facts) == facts else path] = facts
    for (family, keys), members in families.items():
        of = f", of the family {name(family)}" if family else ""
        first, *others = members.values()
        if not others:
            yield f"The model is {names(members)}{of}; {first.text()}{cite(*keys)}."
            continue
        shared = first.shared(others)
        all_of_them = f"; all of them: {shared.text()}" if shared.text() else ""
        yield f"The models are {names(members)}{of}{all_of_them}{cite(*keys)}."
        own = {model_name: facts.without(shared).text() for model_name, facts in members.items()}
        yield from (f"{name(model_name)}: {text}." for model_name, text in own.items() if text)


def _facts(record: Mapping[str, Any]) -> _ModelFacts:
    model, card = record["fingerprint"].get("model", {}), record["model_card"]
    words = {}
    if given := card.get("given", {}).get("model"):
        words["given"] = f"asked for as {name(given)}"
    for fact, said in _OF_CARD.items():
        if card.get(fact):
            words[fact] = f"{said} {name(card[fact])}"
    for weights in ("weights_sha256", "state_sha256"):
        if weights in model:
            words[weights] = f"weights of SHA-256 {name(model[weights])}"
    if "untrained" in model:
        words["untrained"] = f"untrained weights ({name(_pairs(model['untrained']))})"
    for part in ("config", "preprocessor"):
        if model.get(part):
            words[part] = f"{part} of SHA-256 {name(digest(model[part]))}"
    if card.get("n_layers"):
        words["n_layers"] = counted(int(card["n_layers"]), "hidden state")
    words["n_features"] = f"{counted(int(record['n_features']), 'feature')} a layer"
    return _ModelFacts(words, flatten({k: v for k, v in model.items() if k not in _SAID}))


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
