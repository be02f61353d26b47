"""How far a report is: every stage comes to its end, and nothing is told where nobody listens."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_results import write_results

from probes.compared.compared_files import write_comparison
from probes.report import load_report_data, write_report
from probes.report.progress import Progress


def test_a_stage_tells_its_steps_and_never_more_than_it_has() -> None:
    told: list[tuple[str, int, int]] = []
    step = Progress(lambda *now: told.append(now)).stage("figures", 2)
    for _ in range(3):
        step()
    assert told == [("figures", 0, 2), ("figures", 1, 2), ("figures", 2, 2), ("figures", 2, 2)]
    told.clear()
    Progress(lambda *now: told.append(now)).stage("nothing", 0)()
    Progress().stage("nobody", 1)()
    assert told == []


@pytest.mark.slow
def test_a_comparison_tells_each_model_of_each_question(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    a, b = (write_results(tmp_path / name, seeds=(0,)) for name in "ab")
    write_comparison(a, b, tmp_path / "out", lambda *now: told.append(now))
    assert told == [("comparing", done, 3) for done in range(4)]


@pytest.mark.slow
def test_every_stage_of_a_report_comes_to_its_end(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    results = write_results(tmp_path / "results", seeds=(0,))
    data = load_report_data(results, on_progress=lambda *now: told.append(now))
    write_report(data, tmp_path / "report")
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["mistakes", "reading predictions", "figures"]
    for stage in stages:
        done = [d for s, d, _ in told if s == stage]
        (total,) = {t for s, _, t in told if s == stage}
        assert done == list(range(total + 1))
    # Three models' answers, seven layers, and validation of the two models that have several layers: 3 each.
    assert next(t for s, _, t in told if s == "reading predictions") == 3 + 7 + 3 + 3
