"""How the probes were made and chosen, in words, from the results and what a run keeps of its splits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurestore.errors import UserError
from featurestore.layer_list import format_layers
from featurestore.printable import counted
from probes.classifiers.layer_combination import CONCAT, EACH, WEIGHTED
from probes.questions.controls import BY_GROUP, MDL, SHUFFLED
from probes.report.methods.wording import cite, name, names
from probes.results.results_folder import calls_of
from probes.results.selection import R2
from probes.splits import KINDS, PARTS, held_out, parse_split

if TYPE_CHECKING:
    from probes.report.data import ReportData, ReportedQuestion

_QUESTION = ("dataset", "label", "split", "split_seed")
_TRAINED = ("mlp", "linear", "attention", "mha")
_WHAT = {
    "mlp": "a multilayer perceptron, each hidden layer followed by layer normalisation and ReLU",
    "linear": "softmax regression",
    "attention": "attention over the frames of a clip with one learned query, then softmax regression",
    "mha": "attention over the frames of a clip with several heads, then softmax regression",
    "ridge": "ridge regression in closed form",
    "logreg": "scikit-learn's LogisticRegression",
    "svm": "scikit-learn's LinearSVC",
    "knn": "scikit-learn's KNeighborsClassifier",
    "lda": "scikit-learn's LinearDiscriminantAnalysis",
    "centroid": "scikit-learn's NearestCentroid",
    "rf": "scikit-learn's RandomForestClassifier",
    "gb": "scikit-learn's HistGradientBoostingClassifier",
    "retrieval": "the class of the nearest training row by cosine",
}
_COMBINED = {
    EACH: "each layer by itself",
    CONCAT: "layers side by side in one vector",
    WEIGHTED: "a sum of the layers whose weights are learned with the probe",
}
_CONTROLS = {
    SHUFFLED: ("labels dealt out again within each part", ()),
    BY_GROUP: ("a class drawn at random for every group", ("hewitt2019",)),
    MDL: ("the minimum description length of the labels by the online code", ("voita2020",)),
}


def split_sentences(data: ReportData) -> Iterator[str]:
    """Who trained, who chose and who was tested, for every label and split."""
    of_model: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for split in data.run.get("splits", []):
        of_model.setdefault(tuple(split[k] for k in (*_QUESTION, "model")), []).append(split)
    # What is the same for several models is said once.
    said: dict[str, list[str]] = {}
    for (*question, model), found in of_model.items():
        said.setdefault(_split(question, found), []).append(model)
    for words, models in said.items():
        yield f"{words} This holds for {names(models)}."


def _split(question: Sequence[Any], found: Sequence[Mapping[str, Any]]) -> str:
    """One split with all its folds; `question` is data set, label, split and seed."""
    dataset, label, text, seed = question
    return (
        f"For the label {name(label)} of {name(dataset)} the split was {name(text)}: {_how(text, found)}; "
        f"split seed {name(seed)}; {_sizes(found)}. {_classes(found)}{_chance(found)}{_identity(found)}"
    )


def _how(text: str, found: Sequence[Mapping[str, Any]]) -> str:
    try:
        what = KINDS[parse_split(text).kind].sentence(of_numbers=bool(found[0].get("task")))
        return f"{what[0].lower()}{what[1:]}, {name(held_out(text))}"
    except UserError:
        return "of another version of this program"


def _sizes(found: Sequence[Mapping[str, Any]]) -> str:
    """Rows and groups of each part, over folds where there are several."""
    texts = []
    for part in PARTS:
        rows = _range([s["parts"][part]["rows"] for s in found], "clip")
        groups = [len(s["parts"][part]["groups"]) for s in found]
        texts.append(f"{part} {rows}" + (f" of {_range(groups, 'group')}" if any(groups) else ""))
    how_many = f"{len(found)} folds with " if len(found) > 1 else ""
    left = _range([int(split.get("rows_left_out", 0)) for split in found], "clip")
    return f"{how_many}{', '.join(texts)}, {left} in no part"


def _range(counts: Sequence[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return counted(low, noun) if low == high else f"{low:,} to {high:,} {noun}s"


def _classes(found: Sequence[Mapping[str, Any]]) -> str:
    """Clips of each class, over the parts of the first fold together."""
    if found[0].get("task"):
        held = [part["numbers"] for part in found[0]["parts"].values() if "numbers" in part]
        low, high = min(part["low"] for part in held), max(part["high"] for part in held)
        return f"It is a number from {name(f'{low:g}')} to {name(f'{high:g}')}."
    parts = found[0]["parts"].values()
    total: dict[str, int] = {}
    for part in parts:
        for cls, n in part["per_class"].items():
            total[cls] = total.get(cls, 0) + n
    shown = [f"{name(cls)} ({n:,})" for cls, n in sorted(total.items())]
    return f"Its {counted(len(shown), 'class', 'classes')}, with clips: {', '.join(shown)}."


def _chance(found: Sequence[Mapping[str, Any]]) -> str:
    known = [split["chance"] for split in found if split.get("chance") is not None]
    known = [] if any(math.isnan(score) for score in known) else known
    if known and found[0].get("task"):
        return (
            f" Always saying the mean of the training rows scores R² {100 * sum(known) / len(known):.2f} %."
        )
    return f" Guessing scores {100 * sum(known) / len(known):.2f} %." if known else ""


def _identity(found: Sequence[Mapping[str, Any]]) -> str:
    clips = dict.fromkeys(str(split["clips"]) for split in found if split.get("clips"))
    return f" Ids, labels and groups together have the digest {names(clips)}." if clips else ""


def classifier_sentences(data: ReportData) -> Iterator[str]:
    """What was fitted: classifiers with all settings, seeds, layers, controls."""
    import pandas as pd

    fits = pd.concat([q.fits for q in data.questions] + [q.answers_fits for q in data.questions])
    yield "Inputs were standardised by the mean and standard deviation of the training rows."
    tried = _tried(data)
    for (classifier, of_numbers), rows in fits.groupby(["classifier", fits["metric"] == R2], sort=True):
        yield from _classifier(
            str(classifier),
            sorted({int(s) for s in rows["seed"]}),
            tried[str(classifier), bool(of_numbers)],
            of_numbers=bool(of_numbers),
        )
    combined = fits.groupby("combine")["layers"].unique()
    for combine, layers in combined.items():
        held = [int(k) for k in layers] if combine == EACH else []
        shown = format_layers(sorted(held)) if held else "; ".join(sorted(map(str, layers)))
        yield f"Looked at was {_COMBINED.get(str(combine), name(combine))}: layers {name(shown)}."
    yield from _asked(data)


def _classifier(
    classifier: str, seeds: Sequence[int], settings: Sequence[dict[str, Any]], *, of_numbers: bool
) -> Iterator[str]:
    what = _WHAT.get(classifier)
    if what is not None and of_numbers:
        what = what.replace("softmax regression", "linear regression")
    same = {k: v for k, v in settings[0].items() if all(s.get(k) == v and k in s for s in settings)}
    varied = sorted({k for s in settings for k in s} - set(same))
    yield (
        f"The classifier {name(classifier)} is {what or 'of another package, named by its import path'}, "
        f"with {name(_pairs(same)) if same else 'no settings'}"
        + (", and other settings as scikit-learn has them" if what and "scikit-learn" in what else "")
        + "."
    )
    if varied:
        tried = ["; ".join(f"{k} {_value(s[k])}" for k in varied if k in s) for s in settings]
        yield f"Of {len(settings)} settings validation chose: {names(tried)}."
    if classifier in _TRAINED:
        yield from _training(same, "squared error" if of_numbers else "cross-entropy")
    yield f"It was fitted with {'seeds' if len(seeds) > 1 else 'seed'} {name(format_layers(list(seeds)))}."


def _tried(data: ReportData) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """Every setting of each classifier that was fitted, of classes and of numbers (True).

    Questions hold only those that validation chose.
    """
    from probes.results.results_folder import read_results

    table = read_results(data.path)
    # What every fit on numbers has, and no other.
    numbers = table["chance_mae"].notna() if "chance_mae" in table else False
    table = table[["classifier", "hparams"]].assign(numbers=numbers).drop_duplicates()
    return {
        (str(classifier), bool(of_numbers)): [json.loads(text) for text in sorted(rows["hparams"])]
        for (classifier, of_numbers), rows in table.groupby(["classifier", "numbers"])
    }


def _training(settings: Mapping[str, Any], loss: str) -> Iterator[str]:
    """How a network is trained, with the settings that all fits share; the others are named before."""
    decay = settings.get("weight_decay")
    optimiser = f"Adam{cite('kingma2015')}" if decay == 0 else f"AdamW{cite('loshchilov2019')}"
    rate = f" at a rate of {name(settings['learning_rate'])}" if "learning_rate" in settings else ""
    batch = f", {name(settings['batch_size'])} rows a step" if "batch_size" in settings else ""
    yield f"It was trained for the {loss} by {optimiser}{rate}{batch}."
    if "lr_patience" in settings:
        yield (
            "The rate was multiplied by 0.1 after "
            f"{name(settings['lr_patience'])} epochs without a lower validation loss."
        )
    if {"max_epochs", "patience"} <= set(settings):
        yield (
            f"Training ended after {name(settings['max_epochs'])} epochs, or after "
            f"{name(settings['patience'])} without a higher validation score; the epoch with the highest was "
            "kept."
        )


def _asked(data: ReportData) -> Iterator[str]:
    """Controls and learning curves that were asked for."""
    configs = [call["config"] for call in calls_of(data.run)]
    for control in dict.fromkeys(c for config in configs for c in config.get("controls", [])):
        what, keys = _CONTROLS.get(control, (f"{name(control)}", ()))
        yield f"As the control {name(control)}: {what}{cite(*keys)}."
    for curve in dict.fromkeys(c for config in configs for c in config.get("curves", [])):
        of = [c for c in configs if curve in c.get("curves", [])][-1]
        shares, draws = of.get("curve_shares"), of.get("curve_draws")
        yield (
            f"Learning curves were fitted on shares of the training {name(curve)}"
            + (f" ({name(shares)} %)" if shares else "")
            + (f", {counted(draws, 'draw')} of each" if draws else "")
            + "."
        )


def refit_sentences(data: ReportData) -> Iterator[str]:
    """What was fitted again on more rows, if anything."""
    if not data.refits:
        return
    yield (
        "Beside these, what validation chose was fitted again on the training and the validation rows "
        "together, standardised by both, from the same initial weights and with the same settings; what is "
        "trained by epochs for as many as were best, its rate cut after the same epochs. Test rows took no "
        "part."
    )
    for found in data.refits:
        q = found.question
        place = name(found.place)
        yield (
            f"Fitted again on {name(found.refit)}, {name(q['classifier'])} for {name(q['label'])} of "
            f"{name(q['dataset'])} (split {name(q['split'])}) on {name(q['model'])}, {place}, scores "
            + (
                f"{found.metric} {100 * found.score:.2f} % on test."
                if not math.isnan(found.score)
                else f"no {found.metric} on test, where it is not defined."
            )
        )


def choice_sentences(data: ReportData) -> Iterator[str]:
    """What chooses, and what was chosen."""
    yield (
        "Epoch, settings, layer and model were chosen by validation rows; test rows were scored once. Where "
        "a split has folds, everything was chosen anew in each test fold, by the fold's own validation rows."
    )
    tried = _tried(data)
    for q in data.questions:
        answer = q.answer
        several = len(tried[q.classifier, q.metric == R2]) > 1
        settings = f" with {name(_pairs(json.loads(answer['hparams'])))}" if several else ""
        yield (
            f"For {name(q.title)}, {name(answer['model'])} at {_place(answer)}{settings} was chosen: "
            f"{_score(q)}."
        )


def _place(answer: Any) -> str:
    what = "layer" if str(answer["layers"]).isdecimal() else "layers"
    combined = "" if answer["combine"] == EACH else f"{name(answer['combine'])} of "
    return f"{combined}{what} {name(answer['layers'])}"


def _score(q: ReportedQuestion) -> str:
    score = q.answer["score_test_mean"]
    return (
        f"{q.metric} {100 * score:.2f} % on test" if score == score else f"{q.metric} is not defined on test"
    )


def metric_sentences(data: ReportData) -> Iterator[str]:
    """What the scores are, with the rule for absent classes."""
    metrics = dict.fromkeys(q.metric for q in data.questions)
    if "UAR" in metrics:
        yield (
            "UAR (unweighted average recall) is the mean of the recalls of the classes that occur in the "
            "test targets; classes that do not occur there are left out, also where they are predicted (the "
            f"balanced accuracy of scikit-learn{cite('pedregosa2011')})."
        )
    if R2 in metrics:
        yield (
            "R² is one less the ratio of the sum of squared errors to the sum of squares about the mean of "
            "the test rows; 0 is what always saying that mean would score, and it may be negative. Numbers "
            "were standardised by the training rows for fitting."
        )
    if "mAP" in metrics:
        yield (
            "mAP (mean average precision) is the mean of the average precisions of the labels that some test "
            "clip has; labels that none has are left out."
        )


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {_value(v)}" for k, v in settings.items())


def _value(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)
