"""What stands in for the corpora and models of a study file: miniature trees, tiny random models."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from extractors.models.catalogue import CATALOGUE
from extractors.models.registry import BUILT_IN
from extractors.models.weights import split_seed
from studies.study_file.reading import read_study
from tests import models
from tests.miniature_corpora import write_miniature

STUDIES = Path(__file__).parents[1] / "studies"
UNTRAINED = "untrained:"
AVES_SUFFIX = ".torchaudio.pt"


def stand_in_model(spec: str, folder: Path, n_blocks: int | None = None) -> str:
    """A narrow random model in place of what `spec` names, of its family and name; built-in ones as they are.

    Args:
        spec: as in a study file.
        folder: where models are kept; what is there is taken again.
        n_blocks: default: as many as the published model has.
    """
    if spec.startswith(UNTRAINED):
        _, name = split_seed(spec.removeprefix(UNTRAINED))
        return f"{UNTRAINED}{stand_in_model(name, folder, n_blocks)}"
    if spec.split(":")[0] in BUILT_IN:
        return spec
    name, seed = spec.rsplit("/", 1)[-1], zlib.crc32(spec.encode()) % 1000
    place = folder / name.removesuffix(AVES_SUFFIX)
    (entry,) = (e for e in CATALOGUE if e.model_id == name.removesuffix(AVES_SUFFIX) or e.model_id == spec)
    is_aves = name.endswith(AVES_SUFFIX)
    if not place.exists():
        n = n_blocks or entry.n_layers - 1
        if is_aves:
            models.save_aves(place, name=place.name, seed=seed, encoder_num_layers=n)
        elif entry.family == "whisper":
            models.save_whisper(place, seed=seed, n_blocks=n)
        else:
            normalises = entry.normalisation == "zero-mean-unit-variance"
            models.save_ssl(place, entry.family, "base", do_normalize=normalises, seed=seed, n_blocks=n)
    return str(place / name if is_aves else place)


def stand_ins(study: Path, data: Path, out: Path, n_blocks: int | None = None) -> list[str]:
    """Options that put stand-ins in place of a study's corpora and models, and what it writes below `out`.

    Args:
        study: the study file.
        data: folder of miniature trees and tiny models; what is there is taken again.
        out: folder of store, results, manifests and report.
        n_blocks: see `stand_in_model`.
    """
    file = read_study(study)
    values = {"store": out / "store.zarr", "results": out / "results", "manifests": out / "manifests"}
    values["report.out"] = out / "report"
    for name, corpus in file.study.corpora.items():
        assert corpus.adapter is not None, f"{study}: corpus {name} has no adapter that a user could be told"
        which = str(corpus.options.get("task", corpus.options.get("subset", "")))
        tree = data / "corpora" / "-".join([corpus.adapter, which])
        if not tree.exists():
            write_miniature(corpus.adapter, tree, corpus.options)
        values[f"corpora.{name}.source"] = tree
    given: dict[str, str | Path] = dict(values)
    for name, model in file.study.models.items():
        given[f"models.{name}.model"] = stand_in_model(model.model, data / "models", n_blocks)
    return set_options([f"{key}={value}" for key, value in given.items()])


def set_options(values: Sequence[str]) -> list[str]:
    """``--set`` before each of the values."""
    return [word for value in values for word in ("--set", value)]
