import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from report_results import CLASSES, LABEL, MODELS, SETTINGS, without_libraries, write_results
from rich.console import Console

from featurestore.errors import CorruptData, StoreError
from probes.findings.predicted_rows import no_rows
from probes.findings.question_findings import Judged
from probes.findings.sentences import interval_text
from probes.report import load_report_data, terminal_tables, write_report
from probes.report.clips.embedded_keys import EmbeddedKeys
from probes.report.clips.mistakes import mistakes_of, page_context
from probes.report.data import ReportData
from probes.report.html import render_page
from probes.report.methods.document import methods
from probes.report.methods.document import page_context as methods_context
from probes.report.scope import Scope
from probes.report.tables import legend, no_interval
from probes.results.results_folder import RUN_NAME, read_results
from probes.statistics import Interval


class Page(HTMLParser):
    """Tags with attributes, and the text of every table, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._cell = self._skip = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip = tag in ("script", "style")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = True
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def data(results_dir: Path) -> ReportData:
    return load_report_data(results_dir)


@pytest.fixture(scope="module")
def page(data: ReportData) -> Page:
    return Page(render_page(data))


def _expected(results_dir: Path) -> pd.DataFrame:
    """Mean and spread over seeds of the setting that validation prefers, by pandas alone."""
    table = pd.read_parquet(results_dir / "results.parquet")
    table = table[table["hparams"] == SETTINGS[0]]
    return table.groupby(["model", "layer"])["uar_test"].agg(["mean", "std"])


def test_choices_are_made_on_validation(data: ReportData) -> None:
    (question,) = data.questions
    best = question.summary[question.summary["best"]].set_index("model")["layer"]
    assert best.to_dict() == {"logmel": 0, "_tiny<b>": 1, "other": 2}
    # Layer 2 is far better on test, but validation says layer 1.
    assert (question.answer["model"], question.answer["layer"]) == ("_tiny<b>", 1)
    assert set(question.answer_fits["hparams"]) == {SETTINGS[0]}


def test_page_shows_the_numbers_that_pandas_computes(page: Page, results_dir: Path) -> None:
    expected = _expected(results_dir)
    (table,) = [t for t in page.tables if t[0][0] == "Model" and "Val. UAR" in t[0]]
    shown = {(row[0], int(row[1])): (row[2], row[3]) for row in table[1:]}
    assert shown == {
        key: (f"{100 * row['mean']:.1f}", f"{100 * row['std']:.1f}") for key, row in expected.iterrows()
    }
    headline = expected.loc[("_tiny<b>", 1)]
    assert f"{100 * headline['mean']:.1f} % ± {100 * headline['std']:.1f} test UAR" in page.text


def test_recall_and_confusion_are_those_of_the_chosen_probe(page: Page, results_dir: Path) -> None:
    table = read_results(results_dir)
    chosen = table[(table["model"] == "_tiny<b>") & (table["layer"] == 1) & (table["hparams"] == SETTINGS[0])]
    guesses = pd.read_parquet(results_dir / "_predictions")
    guesses = guesses[guesses["fingerprint"].isin(chosen["fingerprint"])]
    right = (guesses["target"] == guesses["prediction"]).groupby(guesses["target"]).mean()
    (recalls,) = [t for t in page.tables if "Recall, %" in t[0]]
    assert {row[0]: row[2] for row in recalls[1:]} == {c: f"{100 * right[c]:.1f}" for c in CLASSES}
    assert {row[0]: row[1] for row in recalls[1:]} == dict(zip(CLASSES, ("20", "10", "6", "2"), strict=True))
    share = pd.crosstab(guesses["target"], guesses["prediction"], normalize="index")
    (matrix,) = [t for t in page.tables if t[0][0] == "" and t[0][1:] == sorted(CLASSES)]
    for row in matrix[1:]:
        for name, cell in zip(matrix[0][1:], row[1:], strict=True):
            assert (int(cell) if cell else 0) == pytest.approx(100 * share.loc[row[0], name], abs=0.51)


def test_text_from_data_is_never_markup(data: ReportData, page: Page) -> None:
    source = render_page(data)
    assert "alert(1)</script>" not in source
    assert "<script>alert" not in source
    assert source.count("<script") == [tag for tag, _ in page.tags].count("script") == 4
    assert source.count("</script") == 4
    assert not {"b", "i"} & {tag for tag, attrs in page.tags if "style" not in attrs}
    for name in (*CLASSES, *MODELS):
        assert name in page.text


def test_page_is_self_contained(data: ReportData, page: Page) -> None:
    source = without_libraries(render_page(data))
    for tag, attrs in page.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert re.findall(r"url\((?!#)", source) == []
    assert "@import" not in source
    assert "http:" not in source
    assert "https:" not in source
    policy = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'")


@pytest.mark.slow
def test_ids_are_unique_and_references_resolve(tmp_path: Path) -> None:
    write_results(tmp_path)
    table = pd.read_parquet(tmp_path / "results.parquet")
    pd.concat([table, table.assign(label="caller")]).to_parquet(tmp_path / "results.parquet")
    source = without_libraries(render_page(load_report_data(tmp_path)))
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', source)
    assert used
    assert set(used) <= set(ids)


def test_warnings_tell_what_limits_the_numbers(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "One clip of $x_1$ (2 in the test part) is worth 12.5 points of UAR" in text
    assert "1 of 2 groups in the test part also occur in training" in text
    assert "no val clips of $x_1$" in text
    assert "seeds of training on one split" in text


@pytest.mark.slow
def test_one_seed_shows_no_spread_and_says_so(tmp_path: Path) -> None:
    data = load_report_data(write_results(tmp_path, seeds=(0,)))
    page = Page(render_page(data))
    assert "One fit per layer (mlp)" in page.text
    assert re.search(r"\d ± \d", page.text) is None
    assert re.search(r"\bnan\b", page.text.lower()) is None


@pytest.mark.slow
def test_missing_predictions_and_run_record_are_survived(tmp_path: Path) -> None:
    write_results(tmp_path, predictions=False)
    (tmp_path / RUN_NAME).unlink()
    page = Page(render_page(load_report_data(tmp_path)))
    assert "No predictions were saved" in page.text
    assert "Configuration" not in page.text


def test_splits_configuration_and_commands_are_shown(page: Page, results_dir: Path) -> None:
    (counts,) = [t for t in page.tables if t[0] == ["Class", "train", "val", "test"]]
    assert ["$x_1$", "8", "0", "2"] in counts
    assert ["All clips", "133", "36", "38"] in counts
    assert ["Groups", "3", "1", "2"] in counts
    assert f"/my store.zarr' \\\n  --label {LABEL}" in page.text
    assert f"fs report {results_dir.name} --out report" in page.text
    assert "featurestore-audio 9.9.9" in page.text


def test_terminal_table_marks_choices_and_states_split_and_chance(
    data: ReportData, results_dir: Path
) -> None:
    out = io.StringIO()
    for table in terminal_tables(data):
        Console(width=160, file=out).print(table)
    text = out.getvalue()
    expected = _expected(results_dir)
    assert "call_type · demo · mlp · split: group" in text
    assert "chance 25.0" in text
    assert "_tiny<b>" in text
    for (model, layer), row in expected.iterrows():
        assert f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" in text, (model, layer)
    best = expected.loc[("_tiny<b>", 1), "mean"]
    assert f"◆ {100 * best:.1f}" in text
    assert f"● {100 * expected.loc[('other', 2), 'mean']:.1f}" in text


def test_the_terminal_says_why_there_is_no_interval_and_what_helps(data: ReportData) -> None:
    question = data.questions[0]
    without = SimpleNamespace(
        judged_answers={
            "a": Judged(no_rows("1 group was tested; an interval needs 4 at least")),
            "b": Judged(no_rows("1 group was tested; an interval needs 4 at least")),
        }
    )
    some = replace(question, scope=Scope(held_out="bird held out", n_groups=6, n_groups_tested=1))
    assert no_interval(some, without) == (
        "No 95 % interval: 1 group was tested; an interval needs 4 at least. Folds test all 6, each once: "
        "--split group-kfold:5."
    )
    few = replace(question, scope=Scope(held_out="bird held out", n_groups=3, n_groups_tested=1))
    assert no_interval(few, without).endswith("needs 4 at least.")  # folds would test three: too few as well
    without.judged_answers["c"] = Judged(
        no_rows(""), interval=Interval(estimate=0.5, low=0.4, high=0.6, n_groups=6, method="x")
    )
    assert no_interval(few, without).startswith("No 95 % interval of a, b: 1 group")
    del without.judged_answers["a"], without.judged_answers["b"]
    assert no_interval(few, without) == ""


def test_the_legend_speaks_of_intervals_only_where_one_is_shown(data: ReportData) -> None:
    shown = {
        bool(interval_text(j.interval)) for f in data.findings.values() for j in f.judged_answers.values()
    }
    assert ("Intervals:" in legend(data)) == any(shown)
    out = io.StringIO()
    for table in terminal_tables(data):
        Console(width=400, file=out).print(table)
    assert ("No 95 % interval" in out.getvalue()) == (False in shown)


def _more(data: ReportData) -> dict[str, object]:
    keys = EmbeddedKeys(data.path, data.run)
    clips = page_context(mistakes_of(data, keys), 4.0)
    return {**clips, **methods_context(methods(data, keys))}


@pytest.mark.slow
def test_files_are_written_whole_and_alike(results_dir: Path, tmp_path: Path) -> None:
    first = write_report(results_dir, tmp_path / "a")
    second = write_report(results_dir, tmp_path / "b")
    kept = [p for p in first.html.parent.rglob("*") if p.is_file() and p.suffix != ".pdf"]
    assert {p.name for p in kept} >= {"index.html", "layers.csv", "comparisons.csv", "q1-layer-curve.svg"}
    for path in kept:
        other = second.html.parent / path.relative_to(first.html.parent)
        assert path.read_bytes() == other.read_bytes(), path.name
    table = pd.read_csv(first.csv).set_index(["model", "layer"])
    expected = _expected(results_dir)
    pd.testing.assert_series_equal(
        table["uar_test_mean"].sort_index(), expected["mean"].sort_index(), check_names=False
    )
    assert table["best_model"].sum() == 1
    over = pd.read_csv(first.across)
    assert over["n_datasets"].tolist() == [1, 1, 1]  # pairs of three models, which one data set does not rank
    assert over["reason"].str.startswith("too few to rank models by; 6 are needed").all()
    for suffix, begins in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<svg")):
        assert (first.figures / f"q1-layer-curve{suffix}").read_bytes().startswith(begins)
    data = load_report_data(results_dir)
    assert first.html.read_text(encoding="utf-8") == render_page(data, more=_more(data))


def test_folder_without_results_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected the results of"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_results(tmp_path)
    (tmp_path / RUN_NAME).write_text("{")
    with pytest.raises(CorruptData, match=r"_run.json: cannot be read \(no JSON: Expecting property name"):
        load_report_data(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_results(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file: cannot write the report here .*; choose another --out$"):
        write_report(tmp_path, tmp_path / "file")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, probes.report; "
        "heavy = ('pandas', 'altair', 'vl_convert', 'jinja2', 'torch'); "
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []
