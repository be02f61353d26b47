from __future__ import annotations

import pytest

from extractors.results import Progress
from studies import progress


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def tell(n_updates: int) -> None:
    with progress.extract_progress(quiet=False) as on_progress:
        assert on_progress is not None
        for i in range(n_updates):
            on_progress(Progress(clips_done=i + 1, clips_total=9, failed=1, audio_s=2.0))


def test_short_work_says_nothing_in_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    tell(5)
    assert lines(capsys) == []


def test_long_work_says_how_far_it_is_in_a_log_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    tell(2)
    said = lines(capsys)
    assert len(said) == 2
    assert said[1].startswith("embedding: 2 of 9, ")
    assert said[1].endswith("× real time, 1 failed")
