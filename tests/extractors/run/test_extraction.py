from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from extractors import ExtractConfig, extract
from extractors.config import ExtractConfig as Config
from featurestore import open_store
from featurestore.backends.storage import LocalStorage
from featurestore.errors import ConfigError, FingerprintMismatch, ManifestError, ModelError
from tests.models import save_ssl

Clips = Callable[..., Path]


def config(manifest: Path, store: Path, **changes: object) -> Config:
    options: dict[str, object] = {
        "manifest": manifest,
        "dataset": "noise",
        "model": "logmel",
        "store": str(store),
        "unit_rows": 4,
    }
    return ExtractConfig(**(options | changes))  # type: ignore[arg-type]


def embeddings(store: Path) -> dict[str, bytes]:
    """Every object of a store that holds embeddings or facts about rows (not timings)."""
    storage = LocalStorage(store)
    return {k: storage.get(k) or b"" for k, _ in storage.objects("") if "/ledger" not in k}


def test_resume_skips_what_is_committed(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = clips([6000 + 7 * i for i in range(11)])
    first = extract(config(manifest, tmp_path / "s"))
    assert (first.n_clips, first.n_skipped, first.failed) == (11, 0, {})
    again = extract(config(manifest, tmp_path / "s"))
    assert again.n_skipped == 11
    assert again.n_bytes == 0


def test_rows_are_ordered_by_duration_and_labels_follow_by_id(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000, 9000, 7000])
    extract(config(manifest, tmp_path / "s"))
    index = open_store(tmp_path / "s").features("logmel", "noise").index
    assert index["utterance_id"].tolist() == ["clip001", "clip002", "clip000"]
    assert index["kind"].tolist() == ["b", "a", "a"]
    assert index["caller"].tolist() == ["c1", "c2", "c0"]
    assert index["duration_s"].tolist() == [9000 / 16_000, 7000 / 16_000, 6000 / 16_000]
    assert index["n_frames"].tolist() == [54, 42, 36]


def test_clips_that_cannot_be_used_fail_alone(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000] * 6)
    folder = manifest.parent
    quiet = extract(config(manifest, tmp_path / "quiet"))
    assert quiet.failed == {}
    soundfile.write(folder / "zeros.wav", np.zeros(6000, np.float32), 16_000)
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), 16_000)
    (folder / "text.wav").write_text("no audio")
    (folder / "folder.wav").mkdir()
    (folder / "broken_link.wav").symlink_to(folder / "nowhere.wav")
    table = pd.read_csv(manifest)
    bad = ["zeros.wav", "empty.wav", "text.wav", "folder.wav", "broken_link.wav"]
    pd.concat([table, pd.DataFrame({"path": bad, "kind": "a", "caller": "c0"})]).to_csv(manifest, index=False)

    summary = extract(config(manifest, tmp_path / "s"))
    assert set(summary.failed) == {b.removesuffix(".wav") for b in bad}
    assert summary.failed["zeros"] == "all samples are zero"
    assert summary.failed["empty"] == "no samples in the file"
    features = open_store(tmp_path / "s").features("logmel", "noise")
    values = features.layer(0).numpy()
    reference = open_store(tmp_path / "quiet").features("logmel", "noise")
    expected = dict(zip(reference.index["utterance_id"], reference.layer(0).numpy(), strict=True))
    for row, (utterance, status) in enumerate(
        features.index[["utterance_id", "status"]].itertuples(index=False)
    ):
        if utterance in expected:
            assert status == "ok"
            np.testing.assert_allclose(values[row], expected[utterance], rtol=1e-5)
        else:
            assert status == f"failed: {summary.failed[utterance]}"
            assert np.isnan(values[row]).all()


def test_too_few_frames_for_a_std_is_a_failure(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000, 500])
    summary = extract(config(manifest, tmp_path / "s", short_policy="none"))
    assert summary.failed == {"clip001": "too short: 500 samples give fewer than 2 frames"}


def test_channels_and_segments_of_one_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-0.5, 0.5, (32_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", stereo, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.wav", stereo[8000:16_000, 1], 16_000, subtype="FLOAT")
    (tmp_path / "m.csv").write_text("path,start_s,end_s,channel\nlong.wav,0.5,1,1\ncut.wav,,,\n")
    extract(config(tmp_path / "m.csv", tmp_path / "s"))
    features = open_store(tmp_path / "s").features("logmel", "noise")
    a, b = features.layer(0).numpy()
    np.testing.assert_array_equal(a, b)
    hashes = features.index["audio_hash"]
    assert hashes[0] == hashes[1]


SCRIPT = """
import sys, time
import torch
torch.set_num_threads(1)
from pathlib import Path
from extractors import ExtractConfig, extract
from extractors.forward.embedder import Embedder
slow = Embedder.queue
def crawl(self, *args):
    time.sleep(0.05)
    return slow(self, *args)
Embedder.queue = crawl
extract(ExtractConfig(manifest=Path(sys.argv[1]), dataset="noise", model=sys.argv[2], store=sys.argv[3],
                      unit_rows=4, batch_seconds=1.0))
"""


@pytest.mark.parametrize(
    ("units_before_kill", "model"),
    [
        (3, "logmel"),
        pytest.param(1, "hubert", marks=pytest.mark.slow),
        pytest.param(3, "hubert", marks=pytest.mark.slow),
    ],
)
def test_killed_and_started_again_it_equals_a_quiet_run_bit_for_bit(
    clips: Clips, tmp_path: Path, units_before_kill: int, model: str
) -> None:
    manifest = clips([5000 + 997 * (i % 5) for i in range(24)])
    if model == "hubert":
        model = str(save_ssl(tmp_path / "hubert", "hubert", "base"))
    options = {"model": model, "batch_seconds": 1.0}
    extract(config(manifest, tmp_path / "quiet", **options))

    killed = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(manifest), model, str(killed)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    records = killed / Path(model).name / "noise" / "ledger" / "c"
    deadline = time.monotonic() + 60
    while len(list(records.glob("[0-9]*"))) < units_before_kill and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    committed = len(list(records.glob("[0-9]*")))
    assert units_before_kill <= committed < 6

    summary = extract(config(manifest, killed, **options))
    assert summary.n_skipped == 4 * committed
    for partial in killed.rglob("*.partial"):
        partial.unlink()
    assert embeddings(killed) == embeddings(tmp_path / "quiet")


def test_other_settings_under_the_same_name_are_refused_before_any_weights_are_loaded(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = clips([6000, 7000])
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    extract(config(manifest, tmp_path / "s", model=str(model)))
    before = embeddings(tmp_path / "s")
    monkeypatch.setattr(
        "extractors.models.huggingface.model_folder.TransformersSource.load",
        lambda *_: pytest.fail("weights were loaded"),
    )
    with pytest.raises(FingerprintMismatch, match=r"input.normalisation: stored none, requested peak"):
        extract(config(manifest, tmp_path / "s", model=str(model), normalisation="peak"))
    assert embeddings(tmp_path / "s") == before


def test_overwrite_replaces_the_key(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000, 7000])
    extract(config(manifest, tmp_path / "s"))
    extract(config(manifest, tmp_path / "s", normalisation="peak", overwrite=True))
    features = open_store(tmp_path / "s").features("logmel", "noise")
    assert features.attrs["fingerprint"]["input"]["normalisation"] == "peak"


def test_functionals_stand_in_the_order_asked_for(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000, 7000])
    extract(config(manifest, tmp_path / "a"))
    extract(config(manifest, tmp_path / "b", functionals=("max", "std", "mean")))
    a = open_store(tmp_path / "a").features("logmel", "noise")
    b = open_store(tmp_path / "b").features("logmel", "noise")
    assert b.functionals == ["max", "std", "mean"]
    np.testing.assert_array_equal(b.layer(0).numpy()[:, [2, 1]], a.layer(0).numpy())


def test_progress_counts_up_to_all_clips(clips: Clips, tmp_path: Path) -> None:
    seen = []
    extract(config(clips([6000] * 9), tmp_path / "s", batch_seconds=1.0), seen.append)
    counts = [p.clips_done for p in seen]
    assert counts == sorted(counts)
    assert counts[-1] == seen[-1].clips_total == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "a/b"}, "dataset name 'a/b' may hold"),
        ({"batch_seconds": float("nan")}, "--batch-seconds: expected a number of seconds, got nan"),
        ({"window_s": float("inf")}, "--window-s: expected a number of seconds, got inf"),
        ({"window_s": -1.0}, "--window-s: expected a number of seconds, got -1"),
        ({"overlap_s": -3.0}, "--overlap-s: expected a number of seconds, got -3"),
        ({"model": ""}, "--model: expected a built-in name, a folder, a file or a hub id, got nothing"),
        ({"name": ".."}, "model name '..'"),
        ({"layers": "0-9"}, "logmel has layers 0-0, there is no 9"),
        ({"device": "tpu"}, "--device: expected auto, cpu"),
        ({"unit_rows": 0}, "--unit-rows: expected from 1 to 1,048,576, got 0"),
        ({"precision": "int8"}, "--precision: expected one of fp32"),
        ({"batch_seconds": -1.0}, "--batch-seconds: expected more than 0"),
    ],
)
def test_wrong_options_are_one_line(
    clips: Clips, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    manifest = clips([6000])
    with pytest.raises(ConfigError, match=message) as error:
        extract(config(manifest, tmp_path / "s", **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "s").exists()


def test_a_bad_manifest_leaves_no_store(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\ngone.wav\n")
    with pytest.raises(ManifestError, match="no audio file"):
        extract(config(tmp_path / "m.csv", tmp_path / "s"))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("model", ["mfcc", "catch22"])
def test_models_of_one_vector_keep_that_vector(clips: Clips, tmp_path: Path, model: str) -> None:
    if model == "catch22":
        pytest.importorskip("pycatch22")
    manifest = clips([6000, 1200])
    assert extract(config(manifest, tmp_path / "s", model=model)).failed == {}
    features = open_store(tmp_path / "s").features(model, "noise")
    assert features.functionals == ["mean"]
    assert features.attrs["fingerprint"]["input"]["short_clips"] == "none"
    with pytest.raises(ConfigError, match="gives one vector per clip"):
        extract(config(manifest, tmp_path / "s", model=model, functionals=("mean", "std")))


def test_overwriting_with_a_model_that_cannot_be_loaded_loses_nothing(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000, 7000])
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    extract(config(manifest, tmp_path / "s", model=str(model)))
    before = embeddings(tmp_path / "s")
    (model / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="cannot be loaded"):
        extract(config(manifest, tmp_path / "s", model=str(model), overwrite=True))
    assert embeddings(tmp_path / "s") == before
