"""Which part of a study a command is about: `--only`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featurestore.errors import ConfigError, Mistakes
from studies.study_file.reading import PLURALS, StudyFile, unknown_name

Pair = tuple[str, str]  # model, corpus


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Names that a command is about.

    Attributes:
        corpora, models, probings: in the file's order.
        pairs: model and corpus, of what is embedded: where probings are chosen, only what they need.
        is_whole: nothing is left out.
    """

    corpora: tuple[str, ...]
    models: tuple[str, ...]
    probings: tuple[str, ...]
    pairs: tuple[Pair, ...]
    is_whole: bool


def scope_of(file: StudyFile, only: Sequence[str] = ()) -> Scope:
    """The scope of ``--only``; all without any.

    Raises:
        Mistakes: a name that the file does not have, or nothing in common.
    """
    chosen = parse_only(only)
    lines = [
        f"--only {kind}={name}: {unknown_name(name, kind, file.names(kind))}"
        for kind, names in chosen.items()
        for name in names
        if name not in file.names(kind)
    ]
    if lines:
        raise Mistakes(lines)
    corpora, models, probings = (_kept(file, kind, chosen) for kind in PLURALS)
    # By corpus: what is decoded for one model is in the system's memory for the next.
    pairs = [(m, c) for c in corpora for m in models]
    if "probing" in chosen:
        needed = {pair for name in probings for pair in pairs_of(file, name)}
        pairs = [pair for pair in pairs if pair in needed]
        models = tuple(m for m in models if any(m == pair[0] for pair in pairs))
        corpora = tuple(c for c in corpora if any(c == pair[1] for pair in pairs))
    if chosen:
        probings = tuple(p for p in probings if set(pairs_of(file, p)) & set(pairs))
    if not pairs:
        raise Mistakes([f"--only {' '.join(only)}: none of these probings looks at such a model and corpus"])
    return Scope(corpora=corpora, models=models, probings=probings, pairs=tuple(pairs), is_whole=not chosen)


def pairs_of(file: StudyFile, probing: str) -> list[Pair]:
    """Models and corpora that a probing looks at."""
    asked = file.study.probings[probing]
    by_corpus = asked.labels if isinstance(asked.labels, dict) else None
    corpora = asked.corpora or list(by_corpus or file.study.corpora)
    return [(m, c) for c in corpora for m in asked.models or file.study.models]


def _kept(file: StudyFile, kind: str, chosen: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    sound = getattr(file.study, PLURALS[kind])
    return tuple(n for n in sound if kind not in chosen or n in chosen[kind])


def parse_only(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``model=a,b`` and the like → names by kind (corpus, model, probing).

    Raises:
        ConfigError: another kind, or no name.
    """
    kinds = {"corpus": "corpus", "corpora": "corpus", "model": "model", "models": "model"}
    kinds |= {"probing": "probing", "probings": "probing"}
    chosen: dict[str, tuple[str, ...]] = {}
    for text in texts:
        kind, _, names = text.partition("=")
        listed = tuple(n.strip() for n in names.split(",") if n.strip())
        if kind.strip() not in kinds or not listed:
            raise ConfigError(f"--only {text}: expected corpus=NAME, model=NAME or probing=NAME")
        kind = kinds[kind.strip()]
        chosen[kind] = (*chosen.get(kind, ()), *listed)
    return chosen
