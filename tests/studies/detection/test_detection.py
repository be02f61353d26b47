"""`fs detect` over made recordings whose calls are known, through the command line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featurestore.errors import ConfigError
from probes.saved.probe_files import read_probe
from studies.detection.request import DetectRequest, make_plan
from tests.command_line import fs, good, one_line_error
from tests.studies.detection.planted import CALL_S, HOP_S, RATE_HZ, World, random_calls, recording


@pytest.fixture(scope="module")
def detected(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two folders with a file of one name each: WAV of one channel and FLAC of two."""
    root = tmp_path_factory.mktemp("detected")
    for folder in ("a", "b"):
        (root / folder).mkdir()
    soundfile.write(root / "a" / "x.wav", recording(20.0, random_calls(20.0, 10, 50), 50), RATE_HZ)
    left = recording(20.0, random_calls(20.0, 10, 51), 51)
    stereo = np.column_stack([left, recording(20.0, [], 52)])
    soundfile.write(root / "b" / "x.wav", stereo, RATE_HZ)
    soundfile.write(root / "b" / "y.flac", left, RATE_HZ)
    result = world.detect(root / "a", root / "b", "--out", root / "out", "--scores")
    assert result.exit_code == 0, (result.output, result.exception)
    return root


def assert_planted(events: pd.DataFrame, calls: list[tuple[float, str]], within_s: float = 0.08) -> None:
    """Each call is an event of its class at its time, and there is no other event."""
    assert events["call"].tolist() == [kind for _, kind in calls]
    starts = np.array([start for start, _ in calls])
    assert np.abs(events["start_s"].to_numpy() - starts).max() < within_s
    assert np.abs(events["end_s"].to_numpy() - starts - CALL_S).max() < within_s


def test_planted_calls_are_found_at_their_times(detected: Path) -> None:
    events = pd.read_parquet(detected / "out" / "events.parquet")
    for name, seed in (("a/x.wav", 50), ("b/y.flac", 51)):
        own = events[events["path"] == str(detected / name)]
        assert_planted(own, random_calls(20.0, 10, seed))
    # The mean of two channels has half the call and its noise; it is found all the same.
    stereo = events[events["path"] == str(detected / "b" / "x.wav")]
    assert stereo["call"].tolist() == [kind for _, kind in random_calls(20.0, 10, 51)]
    assert events["channel"].isna().all()


def test_raven_tables_open_again_with_the_same_times(detected: Path, tmp_path: Path) -> None:
    good("manifest", "raven", detected / "out" / "raven", "--out", tmp_path / "m.csv")
    again = pd.read_csv(tmp_path / "m.csv")
    events = pd.read_parquet(detected / "out" / "events.parquet")
    for column in ("path", "start_s", "end_s", "call"):
        assert again[column].tolist() == events[column].tolist()


def test_audacity_labels_open_again_with_the_same_times(detected: Path, tmp_path: Path) -> None:
    source = detected / "out" / "audacity" / "a"
    good("manifest", "audacity", source, "--audio", detected / "a", "--out", tmp_path / "m.csv")
    again = pd.read_csv(tmp_path / "m.csv")
    events = pd.read_parquet(detected / "out" / "events.parquet")
    own = events[events["path"] == str(detected / "a" / "x.wav")]
    assert again[["start_s", "end_s", "label"]].to_numpy().tolist() == (
        own[["start_s", "end_s", "call"]].to_numpy().tolist()
    )


def test_birdnet_results_have_its_columns(detected: Path) -> None:
    table = pd.read_csv(detected / "out" / "birdnet" / "b" / "y.flac.BirdNET.results.csv")
    names = ["Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File"]
    assert list(table.columns) == names
    assert table["Confidence"].between(0.5, 1).all()
    assert set(table["File"]) == {str(detected / "b" / "y.flac")}


def test_events_are_a_manifest_that_predict_takes_with_the_same_probabilities(
    world: World, detected: Path, tmp_path: Path
) -> None:
    """A window is embedded as a clip of its times: `fs predict` gives what `fs detect` gave, calibrated."""
    scores = pd.read_parquet(detected / "out" / "scores" / "a" / "x.wav.parquet")
    card = json.loads((world.probe / "probe.json").read_text())
    starts = np.minimum(np.arange(len(scores)) * round(HOP_S * RATE_HZ), 20 * RATE_HZ - 6000) / RATE_HZ
    clips = pd.DataFrame({"path": str(detected / "a" / "x.wav"), "start_s": starts, "end_s": starts + CALL_S})
    clips["selection"] = [str(i) for i in range(len(clips))]
    clips.iloc[::7].to_csv(tmp_path / "clips.csv", index=False)
    out = tmp_path / "p.parquet"
    good("predict", "--probe", world.probe, "--manifest", tmp_path / "clips.csv", "--out", out, "-q")
    assert pd.read_parquet(out)["selection"].tolist() == clips["selection"].iloc[::7].tolist()
    said = pd.read_parquet(out)[[f"p:{c}" for c in card["classes"]]].to_numpy(dtype=np.float64)
    scaled = said ** (1 / card["calibration"]["temperature"])
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    got = scores[[f"p:{c}" for c in card["classes"]]].to_numpy()[::7]
    np.testing.assert_allclose(got, expected, atol=2e-5)
    events = detected / "out" / "events.parquet"
    good("predict", "--probe", world.probe, "--manifest", events, "--out", tmp_path / "e.csv", "-q")
    assert (pd.read_csv(tmp_path / "e.csv")["status"] == "ok").all()


def test_windows_lie_end_to_end_over_the_recording(detected: Path) -> None:
    scores = pd.read_parquet(detected / "out" / "scores" / "a" / "x.wav.parquet")
    assert scores["start_s"].iloc[0] == 0
    assert scores["end_s"].iloc[-1] == 20
    assert scores["start_s"].tolist()[1:] == scores["end_s"].tolist()[:-1]


def test_running_again_does_nothing_and_other_options_are_refused(
    world: World, detected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(detected / "out", out)
    tables = {p: p.read_bytes() for p in out.rglob("*.txt")}
    given = (detected / "a", detected / "b", "--out", out)
    assert "(3 done before)" in world.detect(*given, "--scores").output
    one_line_error(world.detect(*given, "--threshold", 0.9), "thresholds", "--overwrite")
    # A table that was corrected by hand is left alone.
    table = next(iter(tables))
    table.write_text(table.read_text() + "mine\n")
    said = world.detect(*given).output
    assert "was changed since it was written" in said
    assert table.read_text().endswith("mine\n")
    assert {p: p.read_bytes() for p in tables if p != table} == {
        p: data for p, data in tables.items() if p != table
    }
    assert world.detect(*given, "--threshold", 0.9, "--overwrite").exit_code == 0
    assert not table.read_text().endswith("mine\n")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_equal_results(world: World, tmp_path: Path) -> None:
    for i in range(6):
        calls = random_calls(60.0, 20, seed=80 + i)
        soundfile.write(tmp_path / f"{i}.wav", recording(60.0, calls, 80 + i), RATE_HZ)
    files = [tmp_path / f"{i}.wav" for i in range(6)]
    options = ("--probe", world.probe, "--window", 0.25, "--hop", 0.01, "--scores", "--workers", 1, "-q")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    good("detect", *files, *options, "--out", whole)
    words = [
        sys.executable,
        "-m",
        "cli",
        "detect",
        *map(str, files),
        *map(str, options),
        "--out",
        str(killed),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(killed.glob("records/**/*.json")):
        assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()  # type: ignore[union-attr]
    done = len(list(killed.glob("records/**/*.json")))
    assert done < 6, "killed too late to tell anything"
    assert f"({done} done before)" in good("detect", *files, *options, "--out", killed).output
    names = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(killed) for p in killed.rglob("*") if p.is_file())
    assert [n for n in names if (whole / n).read_bytes() != (killed / n).read_bytes()] == []


def test_a_broken_file_costs_one_line_and_no_other_recording(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    calls = random_calls(10.0, 5, 60)
    soundfile.write(folder / "good.wav", recording(10.0, calls, 60), RATE_HZ)
    whole = (folder / "good.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.flac").write_bytes(b"no audio")
    result = world.detect(folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2
    assert any("cut.wav" in line for line in lines)
    events = pd.read_parquet(tmp_path / "out" / "events.parquet")
    assert_planted(events, calls)
    (folder / "good.wav").unlink()
    result = world.detect(folder, "--out", tmp_path / "other")
    assert result.exit_code == 1
    assert "none of 2 recordings could be read" in result.stderr


def test_a_recording_that_changed_is_done_again(world: World, tmp_path: Path) -> None:
    file, out = tmp_path / "x.wav", tmp_path / "out"
    for seed in (61, 62):
        calls = random_calls(10.0, 5, seed)
        soundfile.write(file, recording(10.0, calls, seed), RATE_HZ)
        assert world.detect(file, "--out", out).exit_code == 0
        assert_planted(pd.read_parquet(out / "events.parquet"), calls)


def test_short_silent_and_odd_recordings(world: World, tmp_path: Path) -> None:
    calls = [(1.0, "low")]
    soundfile.write(tmp_path / "short.wav", recording(0.1, [], 1), RATE_HZ)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    half = recording(4.0, calls, 2)
    half[2 * RATE_HZ :] = 0
    soundfile.write(tmp_path / "half.wav", half, RATE_HZ)
    soundfile.write(tmp_path / "odd_rate.wav", recording(4.013, calls, 3, 44_100), 44_100)
    assert world.detect(tmp_path, "--out", tmp_path / "out", "--min-event", 0.1).exit_code == 0
    found = pd.read_csv(tmp_path / "out" / "recordings.csv").set_index("path")
    found.index = found.index.map(lambda p: Path(p).stem)
    assert found.loc["short", ["n_windows", "n_silent", "n_events"]].tolist() == [1, 0, 0]
    assert found.loc["silent", "n_silent"] == found.loc["silent", "n_windows"] == 16
    assert 0 < found.loc["half", "n_silent"] < found.loc["half", "n_windows"]
    events = pd.read_parquet(tmp_path / "out" / "events.parquet")
    for name in ("half", "odd_rate"):
        assert_planted(events[events["path"] == str(tmp_path / f"{name}.wav")], calls)


def test_each_channel_by_itself(world: World, tmp_path: Path) -> None:
    calls = [random_calls(8.0, 4, seed) for seed in (70, 71)]
    sound = np.column_stack([recording(8.0, c, 70 + i) for i, c in enumerate(calls)])
    soundfile.write(tmp_path / "x.wav", sound, RATE_HZ)
    assert world.detect(tmp_path / "x.wav", "--out", tmp_path / "out", "--channel", "each").exit_code == 0
    events = pd.read_parquet(tmp_path / "out" / "events.parquet")
    for channel in (0, 1):
        assert_planted(events[events["channel"] == channel], calls[channel])
    one_line_error(
        world.detect(tmp_path / "x.wav", "--out", tmp_path / "out", "--channel", "left"), "--channel", "left"
    )


def test_precision_chooses_thresholds_from_validation_rows(world: World, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", recording(4.0, [(1.0, "low")], 2), RATE_HZ)
    result = world.detect(tmp_path / "x.wav", "--out", tmp_path / "out", "--precision", 0.9)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "low: from 0." in result.output
    assert "background: from" not in result.output


def test_time_expanded_recordings_are_refused_unless_asked_for(world: World, tmp_path: Path) -> None:
    out, calls = tmp_path / "out", [(1.0, "low")]
    soundfile.write(tmp_path / "x.wav", recording(4.0, calls, 2), RATE_HZ)
    with (tmp_path / "x.wav").open("ab") as file:  # behind the audio, as recorders do
        file.write(b"guan" + (20).to_bytes(4, "little") + b"GUANO|Version:1\nTE:8")
    said = (
        "x.wav is time-expanded: it plays 8 times slower",
        "at its true rate, 192,000 Hz",
        "--time-expanded",
    )
    one_line_error(world.detect(tmp_path / "x.wav", "--out", out), *said)
    assert not out.exists()
    result = world.detect(tmp_path / "x.wav", "--out", out, "--time-expanded")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "1 file taken as it plays" in result.output
    events = out / "events.parquet"
    assert_planted(pd.read_parquet(events), calls)
    predict = ("predict", "--probe", world.probe, "--manifest", events, "--out", tmp_path / "p.csv", "-q")
    one_line_error(fs(*predict), *said)
    good(*predict, "--time-expanded")


def test_mistakes_are_one_line(world: World, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", recording(1.0, [], 2), RATE_HZ)
    out = ("--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    one_line_error(world.detect(tmp_path / "empty", *out), "empty", "no audio")
    one_line_error(world.detect(tmp_path / "gone", *out), "gone", "no such file")
    one_line_error(world.detect(tmp_path / "x.wav", *out, "--background", "noise"), "noise", "background")
    one_line_error(world.detect(tmp_path / "x.wav", *out, "--format", "xls"), "xls", "raven")
    one_line_error(world.detect(tmp_path / "x.wav", *out, "--gap", -1), "--gap")
    both = ("--precision", 0.9, "--threshold", 0.5)
    one_line_error(world.detect(tmp_path / "x.wav", *out, *both), "--precision", "--threshold")
    word = ("--probe", world.probe, tmp_path / "x.wav", *out)
    one_line_error(fs("detect", *word, "--window", 1, "--hop", 2), "--hop")
    one_line_error(fs("detect", *word, "--window", 0), "--window")
    one_line_error(fs("detect", "--probe", tmp_path, tmp_path / "x.wav", *out), "probe")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    one_line_error(world.detect(tmp_path / "x.wav", "--out", tmp_path / "mine"), "something else")
    assert not (tmp_path / "out").exists()


def test_a_probe_without_background_says_what_its_scores_mean(world: World) -> None:
    probe = read_probe(world.probe)
    others = replace(probe.card, classes=("noise", "high", "low"), clip_s=0.25)
    request = DetectRequest(probe=world.probe, recordings=[], out=Path("o"))
    plan = make_plan(request, replace(probe, card=others))
    assert plan.background is None
    assert "no class for what is none of its calls" in " ".join(plan.notes)
    assert (plan.grid.window_s, plan.grid.hop_s) == (0.25, 0.125)
    early = replace(probe, card=replace(probe.card, clip_s=None, calibration={}), validation=None)
    with pytest.raises(ConfigError, match="earlier version"):
        make_plan(request, early)
    asked = replace(request, window_s=1.0, precision=0.9)
    with pytest.raises(ConfigError, match="keeps no validation rows"):
        make_plan(asked, early)


def test_the_truth_says_how_right_it_was(world: World, tmp_path: Path) -> None:
    rows = []
    for i in range(5):
        calls = random_calls(10.0, 5, 90 + i)
        soundfile.write(tmp_path / f"{i}.wav", recording(10.0, calls, 90 + i), RATE_HZ)
        # One call is annotated where there is none, and one is not annotated.
        rows += [(f"{i}.wav", start, start + CALL_S, kind) for start, kind in calls[1:]]
        rows.append((f"{i}.wav", 9.5, 9.7, "low"))
    truth = tmp_path / "truth.csv"
    pd.DataFrame(rows, columns=["path", "start_s", "end_s", "call"]).to_csv(truth, index=False)
    files = [tmp_path / f"{i}.wav" for i in range(5)]
    result = world.detect(*files, "--out", tmp_path / "out", "--truth", truth)
    assert result.exit_code == 0, (result.output, result.exception)
    table = pd.read_csv(tmp_path / "out" / "agreement.csv").set_index(["of", "class"])
    low = table.loc[("events", "low")]
    # random_calls begins with a low one, which is the one that is not annotated.
    assert low[["tp", "fp", "fn"]].tolist() == [10, 5, 5]
    assert low["f1"] == pytest.approx(10 / 15, abs=1e-4)
    assert table.loc[("events", "high"), ["tp", "fp", "fn"]].tolist() == [10, 0, 0]
    assert "events, %" in result.output
    assert "no class of the truth" not in result.output
    # Raven tables of the detections are a truth that they agree with wholly.
    raven = ("--truth", tmp_path / "out" / "raven", "--truth-format", "raven", "--truth-label", "call")
    result = world.detect(*files, "--out", tmp_path / "out", *raven, "--iou", 1)
    assert result.exit_code == 0, (result.output, result.exception)
    again = pd.read_csv(tmp_path / "out" / "agreement.csv")
    assert (again[["fp", "fn"]] == 0).all(axis=None)
    # A column of other names is no truth about these classes.
    pd.read_csv(truth).assign(by="anna").to_csv(truth, index=False)
    result = world.detect(*files, "--out", tmp_path / "out", "--truth", truth, "--truth-label", "by")
    said = " ".join(result.output.split())
    assert "no class of the truth (anna) is one that the probe finds (high, low)" in said
    assert "--truth-label says which column" in said
    one_line_error(world.detect(*files, "--out", tmp_path / "out", "--iou", 0.5), "--truth")
    one_line_error(
        world.detect(*files, "--out", tmp_path / "out", "--truth", tmp_path / "gone.csv"), "gone.csv"
    )
