"""What charts draw, against the tables they are of, and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_results import CLASSES, write_results

from probes.report import load_report_data, write_report
from probes.report.charts.curves import CHOSEN, NOT_TOLD, layer_rows
from probes.report.charts.figure import LIGHT, SERIES_COLOURS, is_within, score_limits
from probes.report.charts.files import FORMATS, file_spec
from probes.report.charts.page_data import charts_json, in_script
from probes.report.data import ReportData
from probes.report.tables import csv_table
from probes.statistics import uar_interval


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def data(results_dir: Path) -> ReportData:
    return load_report_data(results_dir)


def rows_on_page(columns: dict[str, Any]) -> pd.DataFrame:
    """A table of the page, as its script reads it."""
    return pd.DataFrame(
        {
            name: [c["texts"][k] for k in c["codes"]] if isinstance(c, dict) else c
            for name, c in columns.items()
        }
    )


def test_the_page_holds_each_table_once_and_figures_name_theirs(data: ReportData) -> None:
    text = str(charts_json(data, data.charts))
    assert not set("<>&") & set(text)
    held = json.loads(text)
    assert {f["table"] for f in held["figures"]} <= set(held["tables"])
    for figure in data.charts.figures:
        (on_page,) = (f for f in held["figures"] if f["id"] == figure.name)
        assert "datasets" not in on_page["spec"]
        assert figure.alt.strip()
        assert len(figure.rows(data.charts.tables))
    (layers,) = (f for f in data.charts.figures if f.name == "q1-layer-curve")
    drawn = rows_on_page(held["tables"]["layers"])
    expected = csv_table(data)
    merged = drawn.merge(expected.assign(layer=expected["layer"].astype(float)), on=["model", "layer"])
    assert len(merged) == len(expected) == len(layers.rows(data.charts.tables))
    np.testing.assert_allclose(merged["score"], 100 * merged["score_test_mean"], rtol=1e-5)
    np.testing.assert_allclose(
        merged["std_low"], 100 * (merged["score_test_mean"] - merged["score_test_std"]), rtol=1e-4
    )


def test_text_from_data_ends_no_script() -> None:
    hostile = "</script><!--\u2028"
    found = str(in_script(json.dumps([hostile], ensure_ascii=False)))
    assert not set("<>\u2028") & set(found)
    assert json.loads(found) == [hostile]


@pytest.mark.slow
def test_intervals_and_recalls_are_those_of_the_predictions(tmp_path: Path) -> None:
    write_results(tmp_path)
    # Groups that all hold all classes, so that there are intervals.
    for path in (tmp_path / "_predictions").iterdir():
        table = pd.read_parquet(path)
        table["group"] = [f"g{int(u[1:]) % 2}{int(u[1:]) % 7}" for u in table["utterance_id"]]
        table["target"] = table["target"].replace({CLASSES[3]: CLASSES[0]})
        table.to_parquet(path, index=False)
    data = load_report_data(tmp_path)
    (question,) = data.questions
    rows = pd.DataFrame(layer_rows(data)).set_index(["model", "layer"])
    fits = question.fits[(question.fits["model"] == "other") & (question.fits["layer"] == 1)]
    said = pd.concat(pd.read_parquet(p) for p in (tmp_path / "_predictions").iterdir())
    said = said[said["fingerprint"].isin(fits["fingerprint"])]
    wide = said.pivot(index="utterance_id", columns="fingerprint", values="prediction")
    one = said.drop_duplicates("utterance_id").set_index("utterance_id").loc[wide.index]
    expected = uar_interval(one["target"].to_numpy(), wide.to_numpy().T, one["group"].to_numpy())
    found = rows.loc[("other", 1)]
    assert (found["low"], found["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert np.isnan(found["std_low"])
    # One class is predicted and never tested.
    recalls = data.charts.tables["recalls"].set_index("class").drop(CLASSES[3])
    assert (recalls["low"] <= recalls["recall"]).all()
    assert (recalls["recall"] <= recalls["high"]).all()
    counts = data.charts.tables["confusion"].groupby("class")["share"].sum()
    np.testing.assert_allclose(counts, 100)


def test_marks_are_the_choice_of_validation(data: ReportData) -> None:
    rows = data.charts.tables["layers"]
    assert rows.loc[rows["mark"] == CHOSEN, ["model", "layer"]].to_numpy().tolist() == [
        ["_tiny<b>", 1],
        ["logmel", 0],
        ["other", 2],
    ]
    # No validation predictions were kept: nothing is said of other layers.
    assert not (rows["mark"] == NOT_TOLD).any()


@pytest.mark.parametrize(
    ("scores", "chance", "is_near"),
    [
        ([30, 60, np.nan], 25, True),
        ([30, 60], 14, False),
        ([92, 97], 10, False),
        ([92, 93], 90, True),
        ([2, 4], 25, False),
        ([40, 50], 52, True),
    ],
)
def test_an_axis_shows_all_scores_and_chance_where_it_is_near(
    scores: list[float], chance: float, is_near: bool
) -> None:
    low, high = score_limits([scores, scores], [chance])
    assert low < np.nanmin(scores) < np.nanmax(scores) < high
    assert is_within(chance, (low, high)) == is_near
    if not is_near:  # scores take most of the height
        assert high - low < 1.2 * max(np.nanmax(scores) - np.nanmin(scores), 5)


@pytest.mark.slow
def test_a_chance_level_that_is_not_drawn_is_told(tmp_path: Path) -> None:
    write_results(tmp_path)
    table = pd.read_parquet(tmp_path / "results.parquet")
    table["uar_test"] = 0.9 + 0.02 * table["layer"]
    figures = []
    for chance in (0.88, 0.004):
        table.assign(chance=chance).to_parquet(tmp_path / "results.parquet", index=False)
        (figure,) = load_report_data(tmp_path).charts.of("curves")
        figures.append((json.dumps(figure.spec), figure.note))
    (near, near_note), (far, far_note) = figures
    assert '"text": "chance 88.0 %"' in near
    assert '"text": "chance' not in far
    assert "chance" not in near_note
    assert far_note.endswith("; chance, 0.4 %, is far below what is drawn")


@pytest.mark.slow
def test_a_model_looks_the_same_everywhere(tmp_path: Path) -> None:
    write_results(tmp_path)
    table = pd.read_parquet(tmp_path / "results.parquet")
    other = table[table["model"] == "other"].assign(label="caller")
    pd.concat([table, other]).to_parquet(tmp_path / "results.parquet")
    data = load_report_data(tmp_path)
    index = data.models.index("other")
    for figure in data.charts.of("curves"):
        text = json.dumps(figure.spec)
        assert f'"var(--series-{index})"' in text
        assert not any(colour in text for colour in SERIES_COLOURS)
        files = json.dumps(file_spec(data, figure, figure.rows(data.charts.tables)))
        assert "var(" not in files
        assert LIGHT[f"--series-{index}"] in files


@pytest.mark.slow
def test_every_figure_is_a_file_in_four_formats_and_old_ones_go(results_dir: Path, tmp_path: Path) -> None:
    paths = write_report(results_dir, tmp_path)
    index = pd.read_csv(paths.figures / "figures.csv")
    names = set(index["figure"])
    assert names == {f.name for f in load_report_data(results_dir).charts.figures}
    there = {p.name for p in paths.figures.iterdir()}
    assert there == {f"{n}.{suffix}" for n in names for suffix in FORMATS} | {"figures.csv"}
    layers = pd.read_csv(paths.figures / "q1-layer-curve.csv")
    assert list(layers.columns[:4]) == ["dataset", "label", "classifier", "split"]
    assert len(layers) == 7
    # A figure of an earlier report that is no more is not left beside the new page.
    pd.concat([index, pd.DataFrame([{"figure": "q9-weights"}])]).to_csv(
        paths.figures / "figures.csv", index=False
    )
    (paths.figures / "q9-weights.png").write_bytes(b"old")
    (tmp_path / "layers.png").write_bytes(b"of an earlier version")
    write_report(results_dir, tmp_path)
    assert {p.name for p in paths.figures.iterdir()} == there
    assert not (tmp_path / "layers.png").exists()
