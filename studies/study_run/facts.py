"""What is known of a study's models, and the sets of models that contrasts compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, get_args

from extractors.models.catalogue import CATALOGUE
from extractors.models.interface import Domain, FineTuning
from extractors.models.weights import split_seed
from featurestore.errors import did_you_mean
from featurestore.printable import enumerated
from studies.study_file.mistakes import Place
from studies.study_file.reading import StudyFile

if TYPE_CHECKING:
    from probes.results.declared_contrasts import DeclaredContrast, ModelSet

#: Fact → value, as text; of numbers and booleans as JSON writes them.
Facts = Mapping[str, str]
_OF_CARD = ("family", "domain", "fine_tuning")
_SAME = {"animals": "animal"}


def facts_of(file: StudyFile, model: str, card: Mapping[str, Any] | None = None) -> Facts:
    """What is known of a model: what the file says, else its card, else the catalogue.

    Args:
        file: the study.
        model: its name there.
        card: fields of its `ModelCard`, where the model or a key of it is at hand.
    """
    asked = file.study.models[model]
    known: dict[str, Any] = {"name": model, **_of_catalogue(asked.model)}
    known |= {name: card[name] for name in _OF_CARD if card and card.get(name)}
    own = {name: getattr(asked, name) for name in ("domain", "fine_tuning", "fine_tuned_from")}
    known |= {name: value for name, value in own.items() if value is not None}
    known |= asked.facts
    known["trained"] = not asked.model.startswith("untrained:")
    return {name: fact_text(value) for name, value in known.items()}


def fact_text(value: Any) -> str:
    """A fact as it is compared."""
    if isinstance(value, bool):
        return str(value).lower()
    return _SAME.get(str(value), str(value))


def chosen_models(side: Any, facts: Mapping[str, Facts]) -> list[str]:
    """The models of one side of a contrast, in the order of `facts`; no untrained one by facts alone."""
    if isinstance(side, list):
        return [m for m in facts if m in side]
    wanted = {
        name: {fact_text(v) for v in (value if isinstance(value, list) else [value])}
        for name, value in side.items()
    }
    wanted.setdefault("trained", {"true"})
    return [m for m, of in facts.items() if all(of.get(name) in values for name, values in wanted.items())]


def declared_contrasts(file: StudyFile, facts: Mapping[str, Facts]) -> list[DeclaredContrast]:
    """The contrasts of a study with the models that they mean; none of which a side has no model."""
    from probes.results.declared_contrasts import DeclaredContrast

    found = []
    for name, contrast in file.study.contrasts.items():
        a, b = _model_set(contrast.a, facts), _model_set(contrast.b, facts)
        if a.models and b.models:
            found.append(DeclaredContrast(name=name, family=contrast.family, a=a, b=b))
    return found


def _model_set(side: Any, facts: Mapping[str, Facts]) -> ModelSet:
    from probes.results.declared_contrasts import ModelSet

    models = tuple(chosen_models(side, facts))
    if isinstance(side, list):
        return ModelSet(name="", models=models)
    values = [v if isinstance(v, list) else [v] for v in side.values()]
    return ModelSet(name=", ".join("/".join(map(fact_text, value)) for value in values), models=models)


def check_contrasts(file: StudyFile, facts: Mapping[str, Facts], *, is_known: bool) -> None:
    """Note contrasts that select no model, or one on both sides.

    Args:
        file: the study.
        facts: of its models.
        is_known: all models were looked at; else only what no model can have is noted.
    """
    for name, contrast in file.study.contrasts.items():
        at: Place = ("contrasts", name)
        sides = {}
        for side in ("a", "b"):
            if file.found.has_below((*at, side)):
                break
            value = getattr(contrast, side)
            sides[side] = chosen_models(value, facts)
            if isinstance(value, dict):
                _check_values(file, (*at, side), value)
            if not sides[side] and is_known and not file.found.has_below((*at, side)):
                file.found.add((*at, side), _selects_none(value, facts))
        if both := set(sides.get("a", ())) & set(sides.get("b", ())):
            file.found.add(at, f"model {min(both)!r} is on both sides; change one of them")


def _check_values(file: StudyFile, at: Place, side: Mapping[str, Any]) -> None:
    """Note values that no model has, of facts whose values are given."""
    for name, values in {"domain": get_args(Domain), "fine_tuning": get_args(FineTuning)}.items():
        asked = side.get(name, [])
        for one in map(fact_text, asked if isinstance(asked, list) else [asked]):
            if one not in values:
                hint = did_you_mean(one, values)
                text = f"selects no model: {name} is one of {enumerated(values)}, not {one!r}{hint}"
                file.found.add((*at, name), text)


def _selects_none(side: Any, facts: Mapping[str, Facts]) -> str:
    known = sorted({name for of in facts.values() for name in of})
    for name, value in side.items():
        if name not in known:
            hint = did_you_mean(name, {*known, *_OF_CARD}) or f"; there are {enumerated(known)}"
            return f"selects no model: no model has a fact {name!r}{hint}"
        values = sorted({of[name] for of in facts.values() if name in of})
        for one in map(fact_text, value if isinstance(value, list) else [value]):
            if one not in values:
                hint = did_you_mean(one, values) or f"; there is {enumerated(values)}"
                return f"selects no model: no model has {name} {one!r}{hint}"
    return "selects no model: none has all of these facts together"


def _of_catalogue(spec: str) -> dict[str, Any]:
    """Facts of a published model by its id, or by the name of its folder or file."""
    name = split_seed(spec.removeprefix("untrained:"))[1] if spec.startswith("untrained:") else spec
    last = PurePath(name).name.removesuffix(".torchaudio.pt")
    for entry in CATALOGUE:
        if name == entry.model_id or last == PurePath(entry.model_id).name:
            return {"family": entry.family, "domain": entry.domain, "fine_tuning": entry.fine_tuning}
    return {}
