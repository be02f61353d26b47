"""Everything that a study stands for, checked against what is there: all mistakes are raised together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featurestore.errors import StoreError, UserError
from featurestore.layer_list import parse_layers
from featurestore.outputs import check_folder
from studies.study_file.mistakes import Place
from studies.study_file.reading import StudyFile
from studies.study_run.corpus_checks import Corpora, look_at_corpora
from studies.study_run.facts import Facts, check_contrasts, facts_of
from studies.study_run.model_checks import check_devices, extract_configs, look_at_models
from studies.study_run.probing_checks import Held, check_layers, check_rows, check_split, look_at_probings
from studies.study_run.requests import ProbeCall, confounds_config
from studies.study_run.scope import Pair, Scope

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.models.interface import ModelSource
    from probes.confounds import ConfoundsConfig

#: The GPU half, which needs audio and models, the CPU half, which needs the store alone, or both.
Half = Literal["both", "extract", "probe"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study that can be run.

    Attributes:
        file: the study.
        scope: the part of it that is meant.
        corpora: their manifests and columns.
        extractions: the calls of `fs extract`, by model and corpus.
        probes: the calls of `fs probe`.
        confounds: the call of `fs confounds`.
        facts: what is known of each model.
        held: layers that the keys of each model hold, or will.
    """

    file: StudyFile
    scope: Scope
    corpora: Corpora
    extractions: Mapping[Pair, ExtractConfig]
    probes: list[ProbeCall]
    confounds: ConfoundsConfig | None
    facts: Mapping[str, Facts]
    held: Held


def prepare(
    file: StudyFile,
    scope: Scope,
    scratch: Path,
    *,
    half: Half,
    is_dry: bool = False,
    cluster: str | None = None,
    device: str | None = None,
) -> Prepared:
    """Check a study against corpora, models and store.

    Args:
        file: the study.
        scope: the part of it that is meant.
        scratch: an empty folder, for manifests as they would be made.
        half: what the command does.
        is_dry: nothing will be done: devices that are elsewhere are no mistake.
        cluster: in place of the file's.
        device: in place of the file's.

    Raises:
        Mistakes: all that were found.
    """
    with_audio = half != "probe"
    _check_places(file, half)
    corpora = look_at_corpora(file, scope.corpora, scratch, with_audio=with_audio)
    sources = look_at_models(file, scope.models) if with_audio else None
    manifests = dict(corpora.manifests)
    if not is_dry:
        manifests |= {made.corpus: made.target for made in corpora.made}
    extractions = extract_configs(
        file,
        scope.pairs,
        manifests,
        sources,
        cluster=cluster,
        device="auto" if is_dry and not device else device,
    )
    if with_audio and not is_dry:
        check_devices(file, extractions.values())
    cards = _cards(file, sources)
    held = _held(extractions, cards)
    columns = corpora.columns
    probes = look_at_probings(file, scope, columns, held, cluster, with_cluster=half != "extract")
    confounds = _confounds(file, scope, corpora, held)
    facts = {name: facts_of(file, name, cards.get(name)) for name in file.study.models}
    is_known = set(facts) == set(file.names("model")) <= set(cards)
    check_contrasts(file, facts, is_known=is_known)
    file.found.raise_if_any()
    return Prepared(
        file=file,
        scope=scope,
        corpora=corpora,
        extractions=extractions,
        probes=probes,
        confounds=confounds,
        facts=facts,
        held=held,
    )


def _check_places(file: StudyFile, half: Half) -> None:
    from featurestore.backends.storage import open_storage

    with file.found.of(("store",)):
        open_storage(file.store)
        if Path(file.store).is_file():
            raise StoreError("expected a folder or a URL, this is a file; choose another")
    folders: list[tuple[Place, Path]] = [(("manifests",), file.place(file.study.manifests))]
    if half != "extract":
        folders += [(("results",), file.results), (("report", "out"), file.place(file.study.report.out))]
    for place, folder in folders:
        try:
            check_folder(folder)
        except UserError as error:
            file.found.add(place, str(error).removeprefix("--out "))
        if folder.resolve().is_relative_to(Path(file.store).resolve()):
            file.found.add(place, f"expected a folder outside of the store, got {folder}; choose another")


def _cards(file: StudyFile, sources: Mapping[str, ModelSource] | None) -> dict[str, Mapping[str, Any]]:
    """What is known of each model: from the model itself, else from a key of it in the store.

    Of models that are out of scope too: a contrast means the same whatever part of a study is done.
    """
    from featurestore.store.chosen_keys import chosen_keys
    from featurestore.store.reader import open_store

    found: dict[str, Mapping[str, Any]] = {}
    with suppress(UserError):  # there is no store yet
        infos = chosen_keys(open_store(file.store).storage, list(file.study.models)).infos
        found = {info.model: info.model_card for info in infos}
    return found | {name: vars(source.card) for name, source in (sources or {}).items()}


def _held(extractions: Mapping[Pair, ExtractConfig], cards: Mapping[str, Mapping[str, Any]]) -> Held:
    held: dict[str, list[int] | None] = {}
    for (model, _), config in extractions.items():
        n_layers = cards.get(model, {}).get("n_layers")
        layers = set(parse_layers(config.layers)) if config.layers else set(range(n_layers or 0))
        if n_layers:
            layers &= set(range(n_layers))
        held[model] = sorted(layers | set(held.get(model) or ())) or None
    return held


def _confounds(file: StudyFile, scope: Scope, corpora: Corpora, held: Held) -> ConfoundsConfig | None:
    asked, at = file.study.confounds, ("confounds",)
    if asked is None:
        return None
    names = [c for c in asked.corpora or file.study.corpora if c in scope.corpora]
    check_split(file, at, asked)
    check_rows(file, at, asked, names, corpora.columns)
    check_layers(file, at, asked.layers, [m for m in asked.models or scope.models if m in scope.models], held)
    if not names or file.found.has_below(at):
        return None
    found: list[ConfoundsConfig | None] = []
    with file.found.of(at):
        found.append(confounds_config(file, scope, corpora.columns))
    return found[0] if found else None
