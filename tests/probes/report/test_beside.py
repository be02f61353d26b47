"""What lies beside results: confounds and audits, said at the top, and refused where they are broken."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from report_results import LABEL, write_results
from rich.console import Console
from whole_report import LEAK, write_confounds

from featurestore.errors import CorruptData
from probes.report import load_report_data
from probes.report.caveats import audit_of, explained_by_confounds, leakage_of
from probes.report.html import render_page
from probes.results.results_folder import RUN_NAME
from studies.terminal import console


def said(folder: Path) -> list[str]:
    return explained_by_confounds(load_report_data(folder))


@pytest.mark.slow
def test_a_confound_that_explains_a_label_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path)
    write_confounds(tmp_path, duration=0.9, dataset="demo", label=LABEL)
    data = load_report_data(tmp_path)
    answer = 100 * data.questions[0].answer["score_test_mean"]
    (sentence,) = explained_by_confounds(data)
    assert f"Duration alone predicts {LABEL} at 90.0 UAR (chance 25.0)" in sentence
    assert f"the best probe at {answer:.1f}" in sentence
    page = render_page(data)
    top = page.index("A confound alone may explain this")
    assert top < page.index('class="big"') < page.index("Read with care")
    out = io.StringIO()
    monkeypatch.setattr(console, "console", lambda: Console(file=out, width=200))
    console.print_tables(data)
    assert out.getvalue().index("Duration alone predicts") < out.getvalue().index("mlp · split: group")


@pytest.mark.slow
def test_a_confound_is_compared_with_the_answer_of_these_results(tmp_path: Path) -> None:
    write_results(tmp_path)
    data = load_report_data(tmp_path)
    answer = float(data.questions[0].answer["score_test_mean"])
    # Far from half of what can be known, and just below this very answer: it comes within 5 points.
    write_confounds(tmp_path, duration=answer - 0.03, dataset="demo", label=LABEL)
    assert len(said(tmp_path)) == 1
    write_confounds(tmp_path, duration=0.4, dataset="demo", label=LABEL)
    assert said(tmp_path) == []
    write_confounds(tmp_path, duration=0.9, dataset="another", label=LABEL)
    assert said(tmp_path) == []


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("uar", "high", r"confound_scores.csv: column 'uar', row 2: expected a number, got 'high'"),
        ("uar", None, r"confound_scores.csv: expected the columns uar, they are not there"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path: Path, column: str, cell: str | None, message: str) -> None:
    write_results(tmp_path)
    write_confounds(tmp_path, dataset="demo", label=LABEL)
    path = tmp_path / "confounds" / "confound_scores.csv"
    table = pd.read_csv(path, dtype=str)
    if cell is None:
        table = table.drop(columns=column)
    else:
        table.loc[0, column] = cell
    table.to_csv(path, index=False)
    with pytest.raises(CorruptData, match=message):
        said(tmp_path)


def test_leakage_is_one_sentence_with_its_consequence(tmp_path: Path) -> None:
    write_results(tmp_path)
    run = json.loads((tmp_path / RUN_NAME).read_text())
    mild = {**LEAK, "kind": "file", "n_rows": 3}
    for split in run["splits"]:
        split["leakage"] = {"leaks": [mild, LEAK], "notes": [], "complete": True}
    (tmp_path / RUN_NAME).write_text(json.dumps(run))
    found = leakage_of(load_report_data(tmp_path))
    assert found is not None
    assert "at worst 30 of 40 test clips are of a group that trained" in found.sentence
    assert "compare with a split by group" in found.sentence
    assert len(found.lines) == 2
    for split in run["splits"]:
        split["leakage"]["leaks"] = []
    (tmp_path / RUN_NAME).write_text(json.dumps(run))
    assert leakage_of(load_report_data(tmp_path)) is None


@pytest.mark.slow
def test_an_audit_is_one_sentence_and_its_notes_are_none(tmp_path: Path) -> None:
    write_results(tmp_path)
    findings = [
        {"kind": "k", "severity": severity, "text": f"a {severity} </script>"}
        for severity in ("fault", "warning", "warning", "note")
    ]
    (tmp_path / "audit").mkdir()
    path = tmp_path / "audit" / "audit.json"
    path.write_text(json.dumps({"manifest": "m.csv", "findings": findings}))
    data = load_report_data(tmp_path)
    found = audit_of(data)
    assert found is not None
    assert found.sentence.startswith("The audit of the corpus has 1 fault and 2 warnings")
    assert len(found.lines) == 3
    assert "a fault &lt;/script&gt;" in render_page(data)
    path.write_text(json.dumps({"manifest": "m.csv", "findings": [{"kind": 1}]}))
    with pytest.raises(CorruptData, match=r"audit.json: cannot be read"):
        audit_of(load_report_data(tmp_path))
