"""What `_run.json` says about a run, as text to show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurestore.errors import UserError
from featurestore.printable import shell_words
from probes.report.reproduction import Reproduction
from probes.splits import KINDS, PARTS, held_out, parse_split

if TYPE_CHECKING:
    from probes.report.data import ReportData

PROTOCOL_PAPER = (
    "E. Sarkar and M. Magimai-Doss, “Comparing self-supervised learning models pre-trained on "
    "human speech and animal vocalizations for bioacoustics processing”, ICASSP 2025"
)
SHOWN_FOLDS = 10
# Of a part of a split of numbers, see `probes.questions.number_questions.part_values`.
_NUMBER_ROWS = {"Values": "n_values", "Lowest": "low", "Mean": "mean", "Highest": "high"}
# Options of `fs probe` and the fields of its configuration they fill.
OPTIONS = {
    "--store": "store",
    "--label": "labels",
    "--model": "models",
    "--dataset": "datasets",
    "--layers": "layers",
    "--task": "task",
    "--classifier": "classifiers",
    "--combine": "combine",
    "--split": "split",
    "--group": "groups",
    "--split-seed": "split_seed",
    "--seeds": "n_seeds",
    "--control": "controls",
    "--curve": "curves",
    "--curve-draws": "curve_draws",
    "--curve-shares": "curve_shares",
    "--refit": "refit",
}


def run_info(data: ReportData) -> dict[str, Any]:
    """Configuration, versions, splits, commands and citation; empty where the run left nothing."""
    config, versions = data.run.get("config", {}), data.run.get("versions", {})
    return {
        "config": [(name, _text(value)) for name, value in config.items() if value not in (None, [], {})],
        "versions": [(name, _text(value)) for name, value in versions.items()],
        "splits": _splits(data),
        "commands": _commands(data),
        "cite": _cite(data, versions),
    }


def distinct_splits(data: ReportData) -> list[tuple[Mapping[str, Any], list[str]]]:
    """The run's splits, those with the same counts and groups once, each with its models."""
    found: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for split in data.run.get("splits", []):
        same = ("dataset", "label", "split", "split_seed", "fold", "parts", "leakage")
        key = json.dumps([split.get(name) for name in same], sort_keys=True)
        found.setdefault(key, (split, []))[1].append(split["model"])
    return list(found.values())


def shared_groups(split: Mapping[str, Any]) -> tuple[int, int]:
    """How many groups of the test part also train, and how many the test part has."""
    test = set(split["parts"]["test"]["groups"])
    return len(test & set(split["parts"]["train"]["groups"])), len(test)


def _splits(data: ReportData) -> list[dict[str, Any]]:
    """One table per split: classes by part, or by test fold where there are folds."""
    together: dict[tuple[Any, ...], list[tuple[Mapping[str, Any], list[str]]]] = {}
    for split, models in distinct_splits(data):
        key = tuple(split[k] for k in ("dataset", "label", "split", "split_seed"))
        together.setdefault(key, []).append((split, models))
    shown = []
    for found in together.values():
        if len({split.get("fold", 0) for split, _ in found}) == 1:
            shown += [_split(split, models) for split, models in found]
        else:
            shown.append(_folds(found))
    return shown


def _split(split: Mapping[str, Any], models: list[str]) -> dict[str, Any]:
    shared, n_test = shared_groups(split)
    text = ""
    if n_test:
        who = f"{shared} of the {n_test} groups" if shared else f"None of the {n_test} groups"
        text = f" {who} in the test part occur{'' if shared > 1 else 's'} in training too."
    return _counts(split, models, text, {part: split["parts"][part] for part in PARTS})


def _folds(found: Sequence[tuple[Mapping[str, Any], list[str]]]) -> dict[str, Any]:
    split = found[0][0]
    spec = parse_split(split["split"])
    tests = {spec.outer(s["fold"]): s["parts"]["test"] for s, _ in found}
    shown = {f"fold {i}": tests[i] for i in sorted(tests)[:SHOWN_FOLDS]}
    text = " Test clips of each fold"
    text += f", the first {SHOWN_FOLDS} of {len(tests)}." if len(tests) > SHOWN_FOLDS else "."
    if spec.n_inner > 1:
        text += f" Each is tested {spec.n_inner} times, with other validation clips."
    classes = {name for part in tests.values() for name in part["per_class"]}
    return _counts(split, [m for _, models in found for m in models], text, shown, classes)


def _counts(
    split: Mapping[str, Any],
    models: Sequence[str],
    text: str,
    parts: Mapping[str, Mapping[str, Any]],
    classes: Collection[str] | None = None,
) -> dict[str, Any]:
    """A table of how many rows of each class are in each of `parts`; `classes`: those of all folds."""
    if classes is None:
        classes = {name for part in parts.values() for name in part["per_class"]}
    of_numbers = [part["numbers"] for part in parts.values() if "numbers" in part]
    totals: list[dict[str, Any]] = [
        {"name": "All clips", "counts": [part["rows"] for part in parts.values()]}
    ]
    groups = [len(part["groups"]) for part in parts.values()]
    if any(groups):
        totals.append({"name": "Groups", "counts": groups})
    if len(of_numbers) == len(parts):
        for name, key in _NUMBER_ROWS.items():
            totals.append({"name": name, "counts": [f"{found[key]:.4g}" for found in of_numbers]})
    return {
        "title": f"{split['label']} · {split['dataset']} · split: {split['split']}",
        "models": ", ".join(dict.fromkeys(models)),
        "text": f"{_how(split)}; split seed {split['split_seed']}.{text}",
        "parts": list(parts),
        "rows": [
            {"name": name, "counts": [part["per_class"].get(name, 0) for part in parts.values()]}
            for name in sorted(classes)
        ],
        "totals": totals,
    }


def _how(split: Mapping[str, Any]) -> str:
    text = str(split["split"])
    try:
        what = KINDS[parse_split(text).kind].sentence(of_numbers=bool(split.get("task")))
        return f"{what}; {held_out(text)}"
    except UserError:
        return f"Split by {text}"  # of another version


def _commands(data: ReportData) -> list[str]:
    """The calls that make all of it again in an empty folder, in their order, that of the report last."""
    made = Reproduction(data.path, data.run)
    lines = [line for call in made.calls for line in (*made.before(call), _command(call, made))]
    return [*lines, made.report()]


def _command(call: Mapping[str, Any], made: Reproduction) -> str:
    config, options = {**call["config"], "store": made.store(call)}, []
    for option, name in OPTIONS.items():
        value = config.get(name)
        items = value if isinstance(value, list) else [value]
        options += [(option, str(item)) for item in items if item is not None]
    lines, grid = made.grid(call)
    options += [("--grid", grid)] if grid else []
    options.append(("--out", made.results))
    lines.append(" \\\n  ".join(["fs probe", *map(shell_words, options)]))
    if not call.get("finished", True):
        lines.insert(0, "# was interrupted, or failed")
    return "\n".join(lines)


def _cite(data: ReportData, versions: Mapping[str, Any]) -> str:
    fingerprints = sorted({f for q in data.questions for f in q.fits["fingerprint"]})
    digest = hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()[:12]
    version = versions.get("featurestore-audio", "(version not recorded)")
    return (
        f"To cite: the models and data sets by their own papers, featurestore-audio {version} "
        f"(results {digest}), and for the protocol {PROTOCOL_PAPER}."
    )


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
