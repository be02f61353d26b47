"""Two results folders compared: against `compare_uar` on their files, and where there is nothing to pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import cli
from featurestore.errors import ConfigError
from probes.compared.compared_files import compared_table
from probes.compared.run_differences import run_differences
from probes.compared.shared_questions import FolderComparison, compare_folders
from probes.questions.tasks import ProbeConfig
from probes.report import load_report_data
from probes.run.probing import run_probe
from probes.statistics import compare_uar, holm
from tests.probes.conftest import manifest_table, write_store

N_CLIPS, N_GROUPS = 240, 24


def clips() -> pd.DataFrame:
    table = manifest_table(N_CLIPS)
    return table.assign(group=[f"bird-{i % N_GROUPS}" for i in range(len(table))])


def stored(folder: Path, table: pd.DataFrame, **more: Any) -> str:
    for model in ("model-a", "model-bb"):
        write_store(folder, table, model=model, layers=(0, 1), **more)
    return str(folder)


def probed(store: str, out: Path, **changes: Any) -> Path:
    asked = {"labels": ("call",), "split": "column", "classifiers": ("logreg",)} | changes
    run_probe(ProbeConfig(store=store, out=out, **asked))
    return out


def in_parts(table: pd.DataFrame) -> pd.DataFrame:
    """A split column in which 12 of 24 groups are tested."""
    number = table["group"].str.removeprefix("bird-").astype(int)
    return table.assign(split=np.select([number < 12, number < 16], ["test", "val"], "train"))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    return probed(stored(folder / "s", in_parts(clips())), folder / "r")


@pytest.fixture(scope="module")
def after(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("after")
    return probed(str(before.parent / "s"), out, grid={"logreg": {"C": 1e-4}})


def compared(a: Path, b: Path) -> FolderComparison:
    return compare_folders(load_report_data(a), load_report_data(b))


def said(out: Path, model: str, layer: int) -> tuple[Any, Any, Any]:
    """Target, predictions `[seeds, n]` and groups in the order of ids, by pandas alone."""
    table = pd.read_parquet(out / "results.parquet")
    mine = table[(table["model"] == model) & (table["layer"] == layer)]
    files = pd.concat(pd.read_parquet(p) for p in (out / "_predictions").glob("*.parquet"))
    rows = files.merge(mine[["fingerprint", "seed"]], on="fingerprint")
    wide = rows.pivot(index="utterance_id", columns="seed", values="prediction").sort_index()
    known = rows.drop_duplicates("utterance_id").set_index("utterance_id").loc[wide.index]
    return known["target"].to_numpy(), wide.to_numpy().T, known["group"].to_numpy()


def test_every_line_is_the_paired_comparison_of_the_predictions(before: Path, after: Path) -> None:
    found = compared_table(compared(before, after))
    assert (found["layers"] == "chosen").sum() == 2
    assert len(found) == 2 + 2 * 2
    for row in found.itertuples():
        layers = (row.layers_a, row.layers_b)
        a, b = (said(out, row.model, int(k)) for out, k in zip((before, after), layers, strict=True))
        expected = compare_uar(a[0], a[1], b[1], a[2])
        assert not expected.reason
        assert (row.difference, row.ci_low, row.ci_high, row.p) == pytest.approx(
            (expected.difference, expected.low, expected.high, expected.p)
        )
        assert (row.n_groups, row.n_clips, row.reason) == (12, len(a[0]), "")
        assert row.score_test_mean_a - row.score_test_mean_b == pytest.approx(row.difference)
        assert row.differs == "settings tried"
    for is_answer in (True, False):
        family = found[(found["layers"] == "chosen") == is_answer]
        np.testing.assert_allclose(family["p_holm"], holm(family["p"]))
    assert (found["p"] < 0.05).any()


@pytest.mark.slow
def test_a_folder_and_its_copy_score_alike(before: Path, tmp_path: Path) -> None:
    again = probed(str(before.parent / "s"), tmp_path)
    found = compared(before, again)
    assert all(line.pair.result.difference == 0 for line in found.lines if line.pair is not None)
    assert all(line.differs == () for line in found.lines)
    assert run_differences(found.a, found.b) == []
    assert all(s.endswith("the two score alike in every group.") for s in found.sentences())


def test_what_differs_between_the_runs_is_listed(before: Path, after: Path) -> None:
    data = load_report_data(before), load_report_data(after)
    found = {d.what: (d.a, d.b) for d in run_differences(*data)}
    assert found == {"--grid": ("not given", '{"logreg": {"C": 0.0001}}')}
    run = json.loads((after / "_run.json").read_text())
    run["versions"]["torch"] = "9.9.9"
    del run["versions"]["numpy"]
    (one,) = (d for d in run_differences(data[0], _with_run(data[1], run)) if d.what == "torch")
    assert one.b == "9.9.9"
    (one,) = (d for d in run_differences(data[0], _with_run(data[1], run)) if d.what == "numpy")
    assert one.b == "not recorded"


def _with_run(data: Any, run: dict[str, Any]) -> Any:
    from dataclasses import replace

    return replace(data, run=run)


@pytest.mark.slow
def test_other_embeddings_are_named_and_compared(before: Path, tmp_path: Path) -> None:
    other = probed(stored(tmp_path / "s", in_parts(clips()), revision=2), tmp_path / "r")
    found = compared(before, other)
    assert {line.differs for line in found.lines} == {("how the embeddings were made",)}
    assert all(line.pair is not None for line in found.lines)
    # The calls that made a key, where they were kept; what is no call is passed over.
    run = dict(found.b.run)
    words = ["extract", "--store", {"slot": "store"}, "--normalise", "peak"]
    run["calls"] = [
        {**call, "keys": {"model-a/calls": [{"words": words}, {"no": "call"}]}} for call in run["calls"]
    ]
    told = run_differences(found.a, _with_run(found.b, run))
    told = [d for d in told if d.what.startswith("embeddings")]
    assert [d.what for d in told] == ["embeddings of model-a/calls", "embeddings of model-bb/calls"]
    assert all(d.a.startswith("fingerprint ") and d.a != d.b for d in told)
    assert told[0].b.endswith("; fs extract --store '<store>' --normalise peak")


@pytest.mark.slow
def test_changed_labels_rows_and_groups_are_counted_and_not_paired(before: Path, tmp_path: Path) -> None:
    table = in_parts(clips())
    tested = table.index[(table["split"] == "test") & (table["call"] != "")].difference([11, 40])
    relabelled = table.copy()
    for i in tested[:3]:
        relabelled.loc[i, "call"] = "peep" if table.loc[i, "call"] != "peep" else "phee"
    moved = table.copy()
    moved.loc[tested[:5], "group"] = "bird-0"
    fewer = table.copy()
    fewer.loc[tested[:7], "split"] = "train"
    for name, changed, part in (
        ("labels", relabelled, f"the labels of 3 of {len(tested)} test clips differ, such as that of "),
        ("rows", fewer, f"the same clips: {len(tested) - 7} in both, 7 only in A, 0 only in B"),
        ("groups", moved, f"of {len(tested)} test clips differ, such as that of "),
    ):
        other = probed(stored(tmp_path / name, changed), tmp_path / f"r-{name}", layers="1")
        found = compared(before, other)
        assert all(line.pair is None and part in line.reason for line in found.lines), name
        assert "clips, labels or groups that were split" in found.lines[0].differs
        row = compared_table(found).iloc[0]
        assert np.isnan([row["difference"], row["ci_low"], row["p"], row["p_holm"]]).all()
        assert row[["n_groups", "n_clips"]].isna().all()
        assert "are not compared: " in found.sentences()[0]
        assert "layers probed" in found.sentences()[0]


@pytest.mark.slow
def test_lost_predictions_and_questions_of_one_alone_are_told(
    before: Path, after: Path, tmp_path: Path
) -> None:
    out = probed(str(before.parent / "s"), tmp_path, models=("model-a",), classifiers=("logreg", "centroid"))
    for path in (out / "_predictions").iterdir():
        path.unlink()
    found = compared(before, out)
    assert {line.model for line in found.lines} == {"model-a"}
    assert found.lines[0].reason == "B: its predictions are not in the results folder"
    assert found.alone == {
        "A": ("call · calls · model-bb · logreg · split: column",),
        "B": ("call · calls · model-a · centroid · split: column",),
    }
    assert (
        found.sentences()[-1] == "Only in B: 1 question: call · calls · model-a · centroid · split: column."
    )


@pytest.mark.slow
def test_a_model_whose_layers_were_only_combined_has_no_answer(before: Path, tmp_path: Path) -> None:
    store = str(before.parent / "s")
    for name in ("a", "b"):
        probed(store, tmp_path / name, models=("model-a",), combine=("concat",))
        probed(store, tmp_path / name, models=("model-bb",))
    found = compared(tmp_path / "a", tmp_path / "b")
    assert [(line.model, line.layers) for line in found.lines] == [
        ("model-bb", "chosen"),
        ("model-a", "concat 0-1"),
        ("model-bb", "0"),
        ("model-bb", "1"),
    ]


def fs(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.main, [str(w) for w in words])
    return done.exit_code, done.output


@pytest.mark.slow
def test_the_command_writes_page_and_table(before: Path, after: Path, tmp_path: Path) -> None:
    code, printed = fs("report", "--compare", before, after, "--out", tmp_path)
    assert code == 0, printed
    assert "call · calls · model-a · logreg · split: column: A is " in printed
    assert "--grid: A not given; B" in printed
    page = (tmp_path / "index.html").read_text()
    written = pd.read_csv(tmp_path / "compare.csv")
    assert f"{100 * written['score_test_mean_a'].iloc[0]:.1f}" in page
    assert "p &lt; 0.001" in page or "p = " in page
    assert fs("report", "--compare", after, before, "--out", tmp_path)[0] == 0  # its own files are replaced
    back = pd.read_csv(tmp_path / "compare.csv")
    np.testing.assert_allclose(back["difference"], -written["difference"])


@pytest.mark.slow
def test_text_from_data_is_never_markup(tmp_path: Path) -> None:
    table = in_parts(clips())
    write_store(tmp_path / "s", table.assign(**{"<b>call</b>": table["call"]}), model="m", layers=(0,))
    a, b = (
        probed(str(tmp_path / "s"), tmp_path / name, labels=("<b>call</b>",), classifiers=("centroid",))
        for name in ("<i>a", "b")
    )
    assert fs("report", "--compare", a, b, "--out", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<i>" not in page
    assert "<b>" not in page
    assert "&lt;i&gt;a" in page
    assert "&lt;b&gt;call" in page


def one_line(*words: object) -> str:
    code, printed = fs("report", *words)
    assert code == 2
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1, printed
    return printed


def test_what_cannot_be_is_one_line(before: Path, after: Path, tmp_path: Path) -> None:
    assert f"got {before} twice" in one_line("--compare", before, before, "--out", tmp_path)
    assert "found no such file" in one_line("--compare", before, tmp_path / "nowhere", "--out", tmp_path)
    assert "got neither" in one_line("--out", tmp_path)
    assert "got both" in one_line(before, "--compare", before, after, "--out", tmp_path)
    assert "leave it out" in one_line("--compare", before, after, "--oracle", "--out", tmp_path)
    (tmp_path / "index.html").write_text("mine")
    assert "would be lost" in one_line("--compare", before, after, "--out", tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    (tmp_path / "index.html").unlink()
    (tmp_path / "compare.csv").write_text("mine")
    assert "would be lost" in one_line("--compare", before, after, "--out", tmp_path)


@pytest.mark.slow
def test_nothing_in_common_is_one_line(before: Path, tmp_path: Path) -> None:
    other = probed(str(before.parent / "s"), tmp_path, classifiers=("centroid",))
    with pytest.raises(
        ConfigError, match="share no data set, label, classifier, split and model: the first "
    ):
        compared(before, other)
