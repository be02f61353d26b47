from __future__ import annotations

import pytest

from extractors.results import ExtractProgress, ExtractSummary
from studies.terminal import progress
from studies.terminal.console import print_extract_summary, print_failures, reasons


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def tell(n_updates: int) -> None:
    with progress.extract_progress(quiet=False) as on_progress:
        assert on_progress is not None
        for i in range(n_updates):
            on_progress(ExtractProgress(clips_done=i + 1, clips_total=9, failed=1, audio_s=2.0))


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


def test_stages_are_named_one_after_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    with progress.stages_done(quiet=False) as told:
        assert told is not None
        for what, done, total in (("decoding", 5, 5), ("fitting", 1, 40), ("fitting", 2, 40)):
            told(what, done, total)
    assert lines(capsys) == ["decoding: 5 of 5", "fitting: 1 of 40", "fitting: 2 of 40"]
    with progress.stages_done(quiet=True) as silent:
        assert silent is None


def test_failures_that_differ_in_a_number_are_one_reason(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {
        f"c{i}": f"cut short: its header promises 9,000 frames, {i:,} are there" for i in range(1000, 1021)
    }
    failed |= {"d": "no such file", "e": "starts at 8 s, after the file's end at 2.5 s"}
    assert reasons(failed) == (
        "21 × cut short: its header promises 9,000 frames, … are there, 1 × no such file, "
        "1 × starts at 8 s, after the file's end at 2.5 s"
    )
    print_failures(failed)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert shown[0].endswith("21 × cut short: its header promises 9,000 frames, … are there (e.g. 'c1000')")


def test_the_rate_of_a_model_that_saw_no_clip_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    for failed, is_told in (({"a": "no such file"}, True), ({"a": "no such file", "b": "too short"}, False)):
        summary = ExtractSummary(
            key="m/d",
            n_clips=2,
            n_embedded=2,
            failed=failed,
            audio_s=1.0,
            elapsed_s=2.0,
            forward_s=0.001,
            n_bytes=9,
            layers=[0],
            device="cpu",
        )
        print_extract_summary(summary, "s")
        said = capsys.readouterr().out
        assert "on cpu (1.0 clips/s, 0.5× real time" in said
        assert ("the model alone" in said) is is_told
