"""What a plan predicts, beside what the run takes: by rates that are on record, and by shapes."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featurestore.backends.storage import open_storage
from featurestore.manifest.table import read_manifest
from featurestore.store.key_request import KeyRequest
from featurestore.store.ledger import read_sound_records
from featurestore.store.writer import UnitRows, open_key
from studies.study_run.forecast import Forecast, ProbingTime, by_first_unit, embedding_forecasts
from studies.study_run.key_plan import KeyState, measured_rate
from studies.terminal.study_text import print_forecasts
from tests.conftest import write_clips
from tests.studies.conftest import STUDY, fs, words_of

N_ROWS, UNIT_ROWS = 10, 4  # three units, the last half empty


@pytest.fixture
def write_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a key whose units took given seconds for given seconds of audio, on a host and device."""
    manifest = read_manifest(write_clips(tmp_path / "audio", [400] * N_ROWS))
    ids = manifest.table["utterance_id"].to_numpy(dtype=object)

    def make(model: str, *units: tuple[float, float], host: str = "here", device: str = "cpu") -> str:
        url = str(tmp_path / "store")
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        request = KeyRequest(
            model=model,
            dataset="calls",
            fingerprint={},
            functionals=("mean",),
            layers=(0, 1),
            n_features=8,
            unit_rows=UNIT_ROWS,
        )
        writer, _ = open_key(open_storage(url), request, manifest, ids)
        for unit, (audio_s, elapsed_s) in zip(writer.info.units, units, strict=False):
            n, at = unit.n_rows, slice(unit.first_row, unit.stop_row)
            rows = UnitRows(
                status=["ok"] * n,
                n_frames=np.ones(n, dtype=np.int64),
                duration_s=np.ones(n),
                audio_hash=[str(i) for i in ids[at]],
            )
            blocks = [(layer, np.zeros((n, 1, 8), dtype=np.float32)) for layer in (0, 1)]
            writer.write_unit(
                unit, blocks, rows, audio_s=audio_s, elapsed_s=elapsed_s, versions={"device": device}
            )
        monkeypatch.setattr(socket, "gethostname", lambda: "here")
        return url

    return make


def test_a_rate_is_of_this_machine_and_device_where_there_is_one(write_key: Callable[..., str]) -> None:
    url = write_key("slow", (100, 10), (50, 5), host="elsewhere")
    storage = open_storage(url)
    rate = measured_rate(storage, "slow", "cpu")
    assert rate is not None
    assert (rate.real_time, rate.devices) == (10.0, "cpu")
    assert measured_rate(storage, "slow", "cuda:1") == rate  # better than none
    assert measured_rate(storage, "other", "cpu") is None


def test_rates_of_other_machines_do_not_count_beside_own(
    write_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(write_key("model", (100, 10), (60, 2), (20, 2)))
    hosts = iter(["here", "elsewhere", "here"])
    records = read_sound_records(storage, "model/calls")
    for record in records.values():
        object.__setattr__(record, "host", next(hosts))
    object.__setattr__(records[2], "versions", {"device": "cuda"})
    monkeypatch.setattr("featurestore.store.ledger.read_sound_records", lambda *_: records)
    real_time = {d: measured_rate(storage, "model", d).real_time for d in ("cpu", "cuda:3", "mps")}  # type: ignore[union-attr]
    assert real_time == {"cpu": 10.0, "cuda:3": 10.0, "mps": 180 / 14}


def test_the_first_unit_predicts_the_others(write_key: Callable[..., str]) -> None:
    storage = open_storage(write_key("model", (100, 10), (50, 4), (20, 3)))
    records = list(read_sound_records(storage, "model/calls").values())
    assert by_first_unit(records) == (7.0, 7.0)
    assert by_first_unit(records[:1]) == (0.0, 0.0)


def test_bytes_are_those_of_whole_units(write_key: Callable[..., str]) -> None:
    storage = open_storage(write_key("model", (100, 10), (50, 5), (20, 2)))
    n_bytes = 3 * UNIT_ROWS * 8 * 4 * 2
    known = KeyState(model="model", corpus="calls", units=(0, 1, 2), n_bytes=n_bytes, estimate_s=20.0)
    time, values = embedding_forecasts(storage, [known])
    assert (time.predicted, time.taken, time.ratio) == (20.0, 17.0, 0.85)
    assert values.predicted == n_bytes
    assert values.ratio == pytest.approx(1, abs=0.3)
    # What was broken off was not what the plan meant.
    assert embedding_forecasts(storage, [KeyState(model="model", corpus="calls", units=(2, 3))]) == []


def test_probing_is_predicted_by_what_fits_of_it_took() -> None:
    spent = ProbingTime()
    spent.add(10, 5.0, None)
    spent.add(20, 12.0, 0.5)
    spent.add(0, 0.1, 0.5)  # nothing was fitted
    known, unknown = spent.forecasts
    assert (known.predicted, known.taken) == (10.0, 12.0)
    assert (unknown.predicted, unknown.taken, unknown.ratio) == (None, 5.0, None)
    assert ProbingTime().forecasts == []


def test_forecasts_are_told_in_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_forecasts(
        [
            Forecast(what="values", unit="bytes", predicted=2000, taken=3000, by="the shapes of units"),
            Forecast(what="probing", unit="s", predicted=None, taken=70.0, by="rates on record"),
        ]
    )
    assert words_of(capsys.readouterr().out) == (
        "plan and run: values: 3.0 kB written, 2.0 kB predicted by the shapes of units (1.50 times) "
        "plan and run: probing: 1 min 10 s taken, no rate was on record"
    )


@pytest.mark.slow
def test_a_run_says_what_its_plan_predicted(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(STUDY)
    said = words_of(fs("study", "run", file, "--quiet").output)
    assert "plan and run: values: " in said
    assert "predicted by the first unit of each" in said
    kept = json.loads((tmp_path / "results/_study.json").read_text())
    ratios = {f["what"]: f["ratio"] for f in kept["forecasts"]}
    assert ratios["values"] == pytest.approx(1, abs=0.3)
    assert ratios["probing"] is None
    assert kept["spent"]["main"]["fits"] == 12
    # The next fits of this probing have a rate, in the plan and in the run.
    more = ("--set", "probings.main.classifiers=[centroid, lda, knn]")
    assert "main 12 6 about " in words_of(fs("study", "run", file, "--dry-run", *more).output)
    assert "predicted by rates on record" in words_of(fs("study", "run", file, "--quiet", *more).output)
