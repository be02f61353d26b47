from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featurestore.corpora import synthetic
from featurestore.corpora.synthetic import CALL_TYPES, SAMPLE_RATE_HZ, make_clip, write_corpus
from featurestore.errors import ConfigError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), n_clips=360, seed=0)


def _read(manifest: Path) -> pd.DataFrame:
    return pd.read_csv(manifest, dtype=str)


def _log_mel_statistics(samples: np.ndarray, n_bands: int = 40) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    hz = np.fft.rfftfreq(512, 1 / SAMPLE_RATE_HZ)
    edges = 700 * (np.exp(np.linspace(0, np.log1p(8000 / 700), n_bands + 2)) - 1)
    rise = (hz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hz) / np.diff(edges)[1:, None]
    bands = np.log(power @ np.clip(np.minimum(rise, fall), 0, None).T + 1e-10)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0, ddof=1)])


def test_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_corpus(tmp_path / name, n_clips=12, seed=seed)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 13
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        if file.suffix == ".wav":
            assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()


def test_a_small_corpus_is_the_beginning_of_a_large_one(tmp_path: Path) -> None:
    small = write_corpus(tmp_path / "small", n_clips=8)
    large = write_corpus(tmp_path / "large", n_clips=40)
    pd.testing.assert_frame_equal(_read(small), _read(large).head(8))
    for path in _read(small)["path"]:
        assert (small.parent / path).read_bytes() == (large.parent / path).read_bytes()


def test_files_are_16_khz_16_bit_mono_within_the_stated_durations(corpus: Path) -> None:
    table = _read(corpus)
    assert list(table) == ["utterance_id", "path", "call_type", "caller", "group"]
    assert table["utterance_id"].is_unique
    durations_s = []
    for path in table["path"]:
        info = soundfile.info(corpus.parent / path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        durations_s.append(info.duration)
    assert min(durations_s) >= 0.15
    assert max(durations_s) <= 1.2
    assert 0.35 <= np.median(durations_s) <= 0.45
    assert np.std(np.log(durations_s)) > 0.3


def test_labels_are_balanced_and_recordings_belong_to_one_caller(corpus: Path) -> None:
    table = _read(corpus)
    assert table["call_type"].value_counts().to_dict() == dict.fromkeys(CALL_TYPES, 60)
    assert table["caller"].nunique() == 6
    assert table.value_counts(["call_type", "caller"]).agg(["min", "max"]).tolist() == [10, 10]
    per_recording = table.groupby("group")
    assert (per_recording["caller"].nunique() == 1).all()
    assert (per_recording.size() == 5).all()
    assert (per_recording["call_type"].nunique() == 5).all()
    assert (table.groupby("caller")["group"].nunique() == 12).all()


@pytest.mark.parametrize("snr_db", [-3.0, 10.0, 40.0])
def test_the_background_stands_at_the_stated_ratio(snr_db: float) -> None:
    for number in range(12):
        clip = make_clip(number, snr_db=snr_db)
        ratio = np.mean(clip.call**2) / np.mean(clip.noise**2)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=1e-6)
        assert np.max(np.abs(clip.call + clip.noise)) == pytest.approx(0.5)


def test_the_written_file_is_the_clip(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, n_clips=3, seed=5, snr_db=2.0)
    clip = make_clip(2, seed=5, snr_db=2.0)
    row = _read(manifest).iloc[2]
    samples, _ = soundfile.read(manifest.parent / row["path"])
    np.testing.assert_allclose(samples, clip.call + clip.noise, atol=1.0 / 32767)
    assert row["call_type"] == clip.call_type
    assert row["group"] == clip.recording


def test_noise_is_coloured_as_drawn() -> None:
    rng = np.random.default_rng(0)
    for exponent in (0.3, 1.7):
        power = np.zeros(8001)
        for _ in range(40):
            noise = synthetic._coloured_noise(SAMPLE_RATE_HZ, exponent, rng)
            power += np.abs(np.fft.rfft(noise)) ** 2
        hz = np.arange(100, 7000)
        slope = np.polyfit(np.log(hz), np.log(power[100:7000]), 1)[0]
        assert slope == pytest.approx(-exponent, abs=0.1)


@pytest.mark.parametrize(("name", "direction"), [("sweep_up", 1), ("sweep_down", -1)])
def test_sweeps_move_in_their_direction(name: str, direction: int) -> None:
    caller = synthetic.make_caller(0)
    moved = []
    for number in range(20):
        call = CALL_TYPES[name](caller, 8000, np.random.default_rng(number))
        # 150 bins of 8 Hz: the strongest is the fundamental of the first and last eighth second.
        first, last = (np.abs(np.fft.rfft(part))[:150] for part in (call[:2000], call[-2000:]))
        moved.append(direction * (int(np.argmax(last)) - int(np.argmax(first))) > 0)
    assert np.mean(moved) > 0.9


@pytest.mark.parametrize(("label", "low", "high"), [("call_type", 0.7, 0.95), ("caller", 0.6, 0.97)])
def test_log_mel_statistics_land_between_chance_and_certainty(
    corpus: Path, label: str, low: float, high: float
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = _read(corpus)
    clips = [soundfile.read(corpus.parent / path)[0] for path in table["path"]]
    features = np.stack([_log_mel_statistics(clip) for clip in clips])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, features, table[label], cv=folds, groups=table["group"])
    assert low < balanced_accuracy_score(table[label], predicted) < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clips": 0}, "n_clips must be at least 1, got 0"),
        ({"seed": -1}, "must not be negative"),
        ({"snr_db": float("nan")}, "snr_db must be a finite number"),
    ],
)
def test_arguments_that_cannot_work_are_named(
    tmp_path: Path, arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_corpus(tmp_path, **arguments)  # type: ignore[arg-type]
