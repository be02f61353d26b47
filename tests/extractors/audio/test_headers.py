from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from extractors import ExtractConfig, extract
from featurestore import Features, open_store
from featurestore.errors import ConfigError, FingerprintMismatch, ManifestError

STEREO = np.random.default_rng(0).uniform(-0.5, 0.5, (9000, 2)).astype(np.float32)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A stereo file, once with a channel of its own, a mono file, and one that is no audio."""
    soundfile.write(tmp_path / "two.wav", STEREO, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", STEREO[:8000, 1], 16_000, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "m.csv").write_text(
        "path,utterance_id,channel,kind,group\n"
        "two.wav,a,,x,\ntwo.wav,b,1,y,\none.wav,c,,x,night\ntext.wav,d,,y,\n"
    )
    return tmp_path / "m.csv"


def run(manifest: Path, store: Path, channel: str) -> Features:
    extract(ExtractConfig(manifest=manifest, dataset="d", model="logmel", store=str(store), channel=channel))
    return open_store(store).features("logmel", "d")


def means(features: Features) -> dict[str, np.ndarray]:
    return dict(zip(features.index["utterance_id"], features.layer(0).numpy()[:, 0], strict=True))


def test_each_channel_becomes_a_row(manifest: Path, tmp_path: Path) -> None:
    each = run(manifest, tmp_path / "each", "each")
    rows = each.index.set_index("utterance_id")
    assert sorted(rows.index) == ["a#0", "a#1", "b", "c#0", "d"]
    assert rows["kind"].to_dict() == {"a#0": "x", "a#1": "x", "b": "y", "c#0": "x", "d": "y"}
    # Channels of one recording stay together in a split.
    assert rows["group"].to_dict() == {"a#0": "a", "a#1": "a", "b": "", "c#0": "night", "d": ""}
    assert rows.loc["d", "status"].startswith("failed: cannot be decoded")
    found = means(each)
    soundfile.write(manifest.parent / "left.wav", STEREO[:, 0], 16_000, subtype="FLOAT")
    (tmp_path / "left.csv").write_text("path\nleft.wav\n")
    np.testing.assert_array_equal(
        found["a#0"], means(run(tmp_path / "left.csv", tmp_path / "left", "mix"))["left"]
    )
    np.testing.assert_array_equal(found["a#1"], found["b"])
    assert np.abs(found["a#0"] - found["a#1"]).max() > 0


def test_a_number_is_for_rows_that_name_none(manifest: Path, tmp_path: Path) -> None:
    first = run(manifest, tmp_path / "0", "0")
    each = means(run(manifest, tmp_path / "each", "each"))
    np.testing.assert_array_equal(means(first)["a"], each["a#0"])
    np.testing.assert_array_equal(means(first)["b"], each["a#1"])
    second = run(manifest, tmp_path / "1", "1")
    status = dict(zip(second.index["utterance_id"], second.index["status"], strict=True))
    assert status["c"] == "failed: has 1 channel, none numbered 1 (they count from 0)"
    with pytest.raises(FingerprintMismatch, match=r"input.channels: stored channel 0, or the manifest's"):
        run(manifest, tmp_path / "0", "mix")


def test_ids_that_clash_and_words_that_mean_nothing_are_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--channel: expected mix, each or a number"):
        run(manifest, tmp_path / "s", "left")
    manifest.write_text("path,utterance_id,channel\ntwo.wav,a,\none.wav,a#1,\ntwo.wav,a#1#0,0\n")
    with pytest.raises(ManifestError, match="makes utterance_id 'a#1#0', which another row has already") as e:
        run(manifest, tmp_path / "s", "each")
    assert "\n" not in str(e.value)
