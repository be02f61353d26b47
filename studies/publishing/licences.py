"""Under which licences the parts of a store are: as far as they are known, and ``unknown`` where not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from featurestore.corpora.interface import Corpus
from featurestore.corpora.registry import corpus_names, get_corpus
from featurestore.errors import ConfigError, did_you_mean
from featurestore.store.history import read_history
from featurestore.store.reader import Features

UNKNOWN = "unknown"
# What the corpora's entries say where there is no one licence.
_NO_LICENCE = ("yours", "see ", "differs ", "not published")


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Of a corpus or a model.

    Attributes:
        what: ``corpus NAME`` or ``model NAME``.
        text: the licence, or `UNKNOWN`.
        known_from: who says so, one clause.
        corpus: what is known of a published corpus.
    """

    what: str
    text: str
    known_from: str
    corpus: Corpus | None = None


def parse_corpus_licences(given: Sequence[str], datasets: Iterable[str]) -> dict[str, str]:
    """``DATASET=LICENCE`` texts as a mapping.

    Raises:
        ConfigError: not of this form, twice, or of a data set that is not published.
    """
    known, found = sorted(set(datasets)), dict[str, str]()
    for text in given:
        name, equals, licence = text.partition("=")
        if not equals or not licence.strip():
            raise ConfigError(f"--corpus-licence {text!r}: expected DATASET=LICENCE, such as calls=CC-BY-4.0")
        if name not in known:
            raise ConfigError(
                f"--corpus-licence {text!r}: no data set {name!r} is published, there are "
                f"{', '.join(known)}{did_you_mean(name, known)}"
            )
        if name in found:
            raise ConfigError(f"--corpus-licence: {name!r} was given twice; keep one")
        found[name] = licence.strip()
    return found


def corpus_of(features: Features) -> Corpus | None:
    """The published corpus whose adapter made the key's manifest, as its history tells; None: not known."""
    for call in reversed(read_history(features.storage, features.info.path)):
        words = () if call.table is None else call.table.made_by
        if len(words) > 1 and words[0] == "manifest":
            return get_corpus(str(words[1])) if words[1] in corpus_names() else None
    return None


def corpus_licence(features: Features, given: Mapping[str, str]) -> Licence:
    """Of the data set of a key."""
    what, corpus = f"corpus {features.dataset}", corpus_of(features)
    if features.dataset in given:
        return Licence(
            what=what, text=given[features.dataset], known_from="said by who published this", corpus=corpus
        )
    if corpus is None or corpus.licence.startswith(_NO_LICENCE):
        return Licence(what=what, text=UNKNOWN, known_from="nobody said", corpus=corpus)
    return Licence(what=what, text=corpus.licence, known_from=f"the entry of {corpus.title}", corpus=corpus)


def model_licence(features: Features) -> Licence:
    """Of the weights of a key's model."""
    what, card = f"model {features.model}", features.info.model_card
    text = card.get("licence")
    if not text and card.get("trained") is False:
        return Licence(what=what, text="none needed", known_from="nothing in it was trained")
    if not text:
        return Licence(what=what, text=UNKNOWN, known_from="nobody said")
    source = card.get("source")
    return Licence(what=what, text=str(text), known_from=str(source) if source else "its card in the store")


def require_labels_allowed(licences: Iterable[Licence]) -> None:
    """Refuse to pass on labels of a corpus whose licence nobody said.

    Raises:
        ConfigError: one is unknown.
    """
    unknown = [x.what.removeprefix("corpus ") for x in licences if x.text == UNKNOWN]
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise ConfigError(
            f"--labels: under which licence the labels of {names} may be passed on is not known; say it with "
            f"--corpus-licence {unknown[0]}=LICENCE, or leave --labels out"
        )
