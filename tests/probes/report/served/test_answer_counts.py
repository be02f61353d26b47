"""Counts and filters of served answers, against pandas over the predictions as they are stored."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_results import CLASSES, SETTINGS, write_results

from probes.report import load_report_data
from probes.report.data import ReportData
from probes.report.served.answers import Answers
from probes.report.served.query import ALL, BY_ID, CHOSEN, EVERY, HARDEST, RIGHT, WRONG, Choice, Filter
from probes.report.served.site import Site
from probes.results.results_folder import PREDICTIONS_FOLDER, StoredPredictions, read_results

LABELS = ("call_type", "=other <b>label</b>")
EVIL = "<img src=x onerror=alert(1)>\u202e\x1b[2J"
# Of each model, the layer with the best validation score; see `report_results.SKILL`.
CHOSEN_LAYERS = {"logmel": 0, "_tiny<b>": 1, "other": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Two labels, whose predictions have probabilities, some of them unknown."""
    out = tmp_path_factory.mktemp("results")
    for number, label in enumerate(LABELS):
        write_results(out, label=label, first=1000 * number)
    rng = np.random.default_rng(1)
    for path in sorted((out / PREDICTIONS_FOLDER).glob("*.parquet")):
        table = pd.read_parquet(path)
        p = rng.integers(0, 65, (2, len(table))) / 64  # their sums are exact, in whatever order
        p[rng.random(p.shape) < 0.2] = np.nan
        ids = table["utterance_id"].replace("u37", EVIL)
        table.assign(utterance_id=ids, p_prediction=p[0], p_target=p[1]).to_parquet(path)
    return load_report_data(out)


@pytest.fixture(scope="module")
def said(data: ReportData) -> pd.DataFrame:
    """Answers of all fits with the settings that validation prefers, by pandas alone."""
    fits = read_results(data.path)
    fits = fits[fits["hparams"] == SETTINGS[0]]
    stored = StoredPredictions(data.path).with_probabilities(fits)
    return stored.merge(fits[["fingerprint", "label", "model", "layer"]], on="fingerprint")


@pytest.fixture(scope="module", params=[2**30, 0], ids=["held", "read again"])
def answers(data: ReportData, request: pytest.FixtureRequest) -> Answers:
    found = Answers(data, most_bytes=request.param)
    found.hold(lambda: None)
    return found


def expected(data: ReportData, said: pd.DataFrame, choice: Choice, rows: Filter) -> pd.DataFrame:
    """What a filter lets through, in its order: label, utterance_id, n, wrong, p."""
    if choice.questions is not None:
        said = said[said["label"].isin([data.questions[i].label for i in choice.questions])]
    if choice.models is not None:
        said = said[said["model"].isin([data.models[i] for i in choice.models])]
    if choice.layers == CHOSEN:
        said = said[said["layer"] == said["model"].map(CHOSEN_LAYERS)]
    low, high = (choice.lowest or 0), (99 if choice.highest is None else choice.highest)
    said = said[said["layer"].between(low, high)]
    said = said.assign(wrong=said["target"] != said["prediction"])
    said = said.assign(taken=said["wrong"] & (said["prediction"] == rows.taken))
    table = said.groupby(["label", "utterance_id"]).agg(
        n=("wrong", "size"),
        wrong=("wrong", "sum"),
        p=("p_target", "mean"),
        target=("target", "first"),
        taken=("taken", "any"),
    )
    table = table.assign(share=table["wrong"] / table["n"]).reset_index()
    keep = pd.Series(True, table.index)
    keep &= {ALL: keep, WRONG: table["wrong"] > 0, RIGHT: table["wrong"] == 0}[rows.answer]
    keep &= keep if rows.of_class is None else table["target"] == rows.of_class
    keep &= keep if rows.taken is None else table["taken"]
    keep &= table["utterance_id"].str.lower().str.contains(rows.text.lower(), regex=False)
    # Equals stand in the order of their labels on the page.
    number = {q.label: i for i, q in enumerate(data.questions)}
    table = table.assign(number=table["label"].map(number))[keep]
    by = ["utterance_id", "number"] if rows.order == BY_ID else ["share", "p", "utterance_id", "number"]
    return table.sort_values(by, ascending=[name != "share" for name in by], ignore_index=True)


CHOICES = [
    Choice(),
    Choice(layers=EVERY),
    Choice(layers=EVERY, models=frozenset({0, 2}), questions=frozenset({1})),
    Choice(layers=EVERY, lowest=1, highest=1),
    Choice(models=frozenset({1})),
]
FILTERS = [
    Filter(),
    Filter(answer=WRONG, order=BY_ID),
    Filter(answer=RIGHT),
    Filter(of_class=CLASSES[0], text="U1"),
    Filter(taken=CLASSES[1], order=HARDEST),
    Filter(of_class=CLASSES[2], taken=CLASSES[0], answer=WRONG),
    Filter(text="."),
]


@pytest.mark.parametrize(("choice", "rows"), list(itertools.product(CHOICES, FILTERS)))
def test_filters_are_those_of_pandas(
    answers: Answers, data: ReportData, said: pd.DataFrame, choice: Choice, rows: Filter
) -> None:
    found, wanted = answers.found(choice, rows), expected(data, said, choice, rows)
    ids = [
        (answers.asked[a].label, str(answers.asked[a].ids.texts()[u]))
        for a, u in zip(found.asked, found.utterance, strict=True)
    ]
    assert ids == list(zip(wanted["label"], wanted["utterance_id"], strict=True))
    tallies = {t.asked: t for t in answers.tallies(choice)}
    for a, u, row in zip(found.asked, found.utterance, wanted.itertuples(), strict=True):
        assert tallies[a].n_answers[u] == row.n
        assert tallies[a].n_wrong[u] == row.wrong
        np.testing.assert_allclose(tallies[a].p_target[u], row.p, rtol=1e-12)


def test_what_each_fit_said_of_a_clip(answers: Answers, said: pd.DataFrame, data: ReportData) -> None:
    (tally,) = answers.tallies(Choice(layers=EVERY, questions=frozenset({0})))
    label = data.questions[0].label
    number = answers.asked[tally.asked].ids.code("u7")
    assert number is not None
    table = answers.of_clips(tally, np.array([number]))
    fits = [tally.fits[i] for i in table["fit"]]
    wanted = said[(said["utterance_id"] == "u7") & (said["label"] == label)].set_index("fingerprint")
    assert {f.fingerprint for f in fits} == set(wanted.index)
    for fit, row in zip(fits, table.itertuples(), strict=True):
        of = wanted.loc[fit.fingerprint]
        assert (row.target, row.prediction, row.group) == (of["target"], of["prediction"], of["group"])
        assert data.models[fit.model] == of["model"]
        assert fit.layer == of["layer"]


def test_nothing_chosen_is_nothing(answers: Answers) -> None:
    found = answers.found(Choice(models=frozenset()), Filter())
    assert (len(found.utterance), found.n_tested) == (0, 0)


def test_json_is_text_whatever_the_results_hold(data: ReportData) -> None:
    answer = Site(data.path, oracle=False, store=None).answer("utterances", "text=ALERT(&layers=every")
    (first, second) = json.loads(answer.text)["rows"]
    assert first["id"] == second["id"] == r"<img src=x onerror=alert(1)>\u202e\x1b[2J"
    assert {first["of"], second["of"]} == {f"{label} · demo" for label in LABELS}
    assert answer.kind == "application/json; charset=utf-8"


def test_label_sets_are_found_by_any_of_their_labels(tmp_path: Path) -> None:
    out = write_results(tmp_path / "results", seeds=(0,))
    for path in (out / PREDICTIONS_FOLDER).glob("*.parquet"):
        table = pd.read_parquet(path)
        table["target"] = np.where(table.index % 2, "a|b", "|")
        table["prediction"] = np.where(table.index % 3, "a|b", "b")
        table.to_parquet(path)
    answers = Answers(load_report_data(out))
    answers.asked[0].is_sets = True
    n_first = len(answers.found(Choice(), Filter(of_class="a")).utterance)
    assert n_first == len(answers.found(Choice(), Filter(of_class="b")).utterance) == 19
    assert len(answers.found(Choice(), Filter(of_class="a|b")).utterance) == 0
    assert answers.asked[0].classes() == {"a", "b"}
