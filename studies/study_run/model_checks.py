"""Models of a study: they are there, and have the layers and options that are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import ConfigError, UserError, did_you_mean, one_line
from featurestore.layer_list import parse_layers
from studies.study_file.mistakes import Place
from studies.study_file.reading import StudyFile
from studies.study_file.schema import Extraction
from studies.study_run.requests import extract_config, extraction_options, model_spec
from studies.study_run.scope import Pair

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.models.interface import ModelCard, ModelSource

# Options that are called otherwise in messages than in a study file.
_KEYS = {"normalisation": "normalise"}
_MODEL_FILES = (".torchaudio.pt", ".tflite")


def look_at_models(file: StudyFile, names: Iterable[str]) -> dict[str, ModelSource]:
    """Find every model, without its weights; those that are not found are noted."""
    from extractors.models.registry import find_model

    found = {}
    for name in names:
        at: Place = ("models", name, "model")
        spec = model_spec(file, name)
        try:
            found[name] = find_model(spec, allow_pickle=bool(file.study.models[name].torch_weights))
        except UserError as error:
            text = one_line(error, None).removeprefix(f"--model {spec}: ")
            written = file.study.models[name].model
            file.found.add(at, f"{written!r}: {text}{_nearest(written, spec)}")
    return found


def _nearest(written: str, spec: str) -> str:
    """A model that is spelt nearly as `written`: beside it in its folder, in the catalogue, or built in.

    Args:
        written: as it stands in the file.
        spec: with its path absolute, where it is one.
    """
    from extractors.models.catalogue import CATALOGUE
    from extractors.models.registry import BUILT_IN

    path = Path(spec)
    if path.is_absolute():
        folder = written.rstrip("/").removesuffix(path.name)
        return did_you_mean(written.rstrip("/"), [folder + name for name in _models_in(path.parent)])
    ids = [entry.model_id for entry in CATALOGUE]
    if hint := did_you_mean(spec, [*BUILT_IN, *ids]):
        return hint
    # The owner left out.
    owned = [one for one in ids if one.endswith(f"/{spec}")]
    return f"; did you mean {owned[0]!r}?" if owned else ""


def _models_in(folder: Path) -> list[str]:
    """Names of the models in a folder."""
    try:
        return [p.name for p in folder.iterdir() if p.name.endswith(_MODEL_FILES) or _is_model_folder(p)]
    except OSError:
        return []


def _is_model_folder(folder: Path) -> bool:
    return (folder / "config.json").is_file() or any(folder.glob(f"*{_MODEL_FILES[0]}"))


def extract_configs(
    file: StudyFile,
    pairs: Iterable[Pair],
    manifests: dict[str, Path],
    sources: dict[str, ModelSource] | None,
    *,
    cluster: str | None = None,
    device: str | None = None,
) -> dict[Pair, ExtractConfig]:
    """The call of `fs extract` for every model and corpus; what cannot be is noted.

    Args:
        file: the study.
        pairs: models and corpora.
        manifests: of the corpora; pairs of those that are not at hand get the path of the file.
        sources: the models; None where they are not looked at.
        cluster: see `ExtractConfig`.
        device: in place of the file's.
    """
    configs = {}
    for model, corpus in pairs:
        with file.found.of(partial(_place_of_message, file, (model, corpus))):
            config = extract_config(
                file,
                (model, corpus),
                manifests.get(corpus, Path(f"{corpus}.csv")),
                cluster=cluster,
                device=device,
            )
            configs[model, corpus] = config
            if sources is not None and model in sources:
                _check_on(file, (model, corpus), config, sources[model])
    return configs


def _check_on(file: StudyFile, pair: Pair, config: ExtractConfig, source: ModelSource) -> None:
    """What is asked of a model is to be had of it.

    Raises:
        ConfigError: it is not.
    """
    from extractors.run.recipe import Recipe

    if config.layers is not None and parse_layers(config.layers)[-1] >= source.card.n_layers:
        text = beyond(config.layers, pair[0], source.card)
        file.found.add(_place_of(file, pair, "layers"), text)
    Recipe.of(config, source)


def beyond(layers: str, model: str, card: ModelCard) -> str:
    """That a model has no such layer."""
    asked = parse_layers(layers)[-1]
    return f"layers {layers}: model {model!r} has layers 0-{card.n_layers - 1}, there is no {asked}"


def _place_of_message(file: StudyFile, pair: Pair, text: str) -> Place:
    """Where the option stands that a message of `ExtractConfig` begins with: ``unit-rows: expected …``."""
    option = _KEYS.get(word := text.split(":")[0].split(" ")[0], word.replace("-", "_"))
    if option in Extraction.model_fields and extraction_options(file, pair).get(option) is not None:
        return _place_of(file, pair, option)
    return ("models", pair[0])


def _place_of(file: StudyFile, pair: Pair, option: str) -> Place:
    """Where an option of the extraction of a model and corpus is given."""
    model, corpus = pair
    if getattr(file.study.models[model], option) is not None:
        return ("models", model, option)
    if getattr(file.study.corpora[corpus].extract, option) is not None:
        return ("corpora", corpus, "extract", option)
    return ("extract", option)


def check_devices(file: StudyFile, configs: Iterable[ExtractConfig]) -> None:
    """Note devices that this machine does not have."""
    from extractors.run.plan import resolve_devices

    for device in dict.fromkeys(c.device for c in configs if c.cluster is None):
        try:
            resolve_devices(device)
        except ConfigError as error:
            places: list[Place] = [
                ("models", n, "device") for n, m in file.study.models.items() if m.device == device
            ]
            place = next(iter(places), ("extract", "device"))
            file.found.add(place, one_line(error, None).removeprefix("--"))
