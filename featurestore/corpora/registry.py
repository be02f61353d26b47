"""Corpora by name; a module is imported only when its corpus is asked for."""

from __future__ import annotations

from importlib import import_module

from featurestore.corpora.interface import Corpus
from featurestore.errors import ConfigError, did_you_mean

_CORPORA = {
    "imv": "imv:IMV",
    "watkins": "watkins:WATKINS",
    "abzaliev": "abzaliev:ABZALIEV",
    "beans": "beans:BEANS",
    "beans-zero": "beans_zero:BEANS_ZERO",
    "catmeows": "catmeows:CATMEOWS",
    "macaque": "macaque:MACAQUE",
    "zebrafinch": "zebrafinch:ZEBRAFINCH",
    "individuals": "individuals:INDIVIDUALS",
    "biodcase-whales": "biodcase_whales:BIODCASE_WHALES",
    "esc50": "esc50:ESC50",
    "hear": "hear:HEAR",
    "birdset": "birdset:BIRDSET",
    "hf": "hf:HF",
    "folder": "folder:FOLDER",
    "table": "foreign_table:TABLE",
    "raven": "raven:RAVEN",
    "audacity": "audacity:AUDACITY",
    "simple-seq": "segments_csv:SIMPLE_SEQ",
    "generic-seq": "segments_csv:GENERIC_SEQ",
    "textgrid": "textgrid:TEXTGRID",
    "elan": "elan:ELAN",
    "label-studio": "label_studio:LABEL_STUDIO",
    "sonic-visualiser": "sonic_visualiser:SONIC_VISUALISER",
    "birdnet": "birdnet:BIRDNET",
    "kaleidoscope": "kaleidoscope:KALEIDOSCOPE",
    "arbimon": "arbimon:ARBIMON",
    "timit": "crowsetta_formats:TIMIT",
    "notmat": "crowsetta_formats:NOTMAT",
    "birdsong-recognition-dataset": "crowsetta_formats:BIRDSONG_RECOGNITION",
    "yarden": "crowsetta_formats:YARDEN",
}


def corpus_names() -> tuple[str, ...]:
    """Names that `get_corpus` takes: published corpora first, then annotation formats."""
    return tuple(_CORPORA)


def get_corpus(name: str) -> Corpus:
    """The corpus of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _CORPORA:
        hint = did_you_mean(name, _CORPORA)
        raise ConfigError(f"no corpus {name!r}, there are {', '.join(_CORPORA)}{hint}")
    module, attribute = _CORPORA[name].split(":")
    corpus: Corpus = getattr(import_module(f"featurestore.corpora.{module}"), attribute)
    return corpus
