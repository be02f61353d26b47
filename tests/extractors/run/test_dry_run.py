"""A dry run says what the run would do, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from extractors import ExtractConfig, extract
from extractors.config import configs_of
from extractors.run.codec_sizes import CODECS, row_bytes
from extractors.run.dry_run import _fit, dry_run
from featurestore.errors import FingerprintMismatch
from tests.models import N_FEATURES, save_ssl, ssl_config

Clips = Callable[..., Path]


def hubert_flops(n_samples: int) -> float:
    """Products and sums of one clip through the tiny HuBERT, from its layers' sizes alone."""
    config = ssl_config("hubert", "base")
    total, before, n = 0.0, 1, n_samples
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        n = (n - kernel) // stride + 1
        total += 2.0 * n * width * before * kernel
        before = width
    d, inner = config.hidden_size, config.intermediate_size
    total += 2.0 * n * before * d
    kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    total += 2.0 * (n + 1) * d * (d // groups) * kernel  # an even kernel gives a frame more, cut off later
    blocks = config.num_hidden_layers
    return total + blocks * (2.0 * n * (4 * d * d + 2 * d * inner) + 4.0 * n * n * d)


def test_what_it_says_is_what_the_run_does(clips: Clips, tmp_path: Path) -> None:
    lengths = [5000] * 6 + [16_000] * 4 + [48_000]
    manifest = clips(lengths)
    (manifest.parent / "clip000.wav").write_text("no audio")
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    options = {"manifest": manifest, "dataset": "d", "store": str(tmp_path / "s"), "unit_rows": 4}
    configs = configs_of([str(model), "logmel"], [], **options, selfcheck=0)
    estimate, _ = dry_run(configs)
    assert not (tmp_path / "s").exists()
    assert (estimate.key, estimate.n_clips, estimate.n_to_do, estimate.n_units) == ("tiny/d", 11, 11, 3)
    assert estimate.unreadable == ("clip000",)
    assert estimate.audio_s == pytest.approx((5 * 5000 + 4 * 16_000 + 48_000 + 5000) / 16_000)
    assert estimate.flops == pytest.approx(sum(map(hubert_flops, lengths)), rel=0.05)
    assert estimate.seconds > 0
    assert estimate.n_measured == 3

    summary = extract(configs[0])
    assert len(list((tmp_path / "s" / "tiny").glob("d/layer_*/c/*"))) == estimate.n_objects == 12
    assert estimate.n_bytes == 3 * 4 * 4 * 2 * N_FEATURES * 4  # three units of four rows, the last not full
    assert 0.5 * estimate.n_bytes < summary.n_bytes < 2 * estimate.n_bytes + 20_000
    done, _ = dry_run(configs)
    assert (done.n_to_do, done.n_units, done.n_batches, done.flops, done.seconds) == (0, 0, 0, None, 0.0)
    # Four more clips: one more unit.
    more = clips([*lengths, 5000, 5000, 5000, 5000])
    grown, _ = dry_run(configs_of([str(model), "logmel"], [], **(options | {"manifest": more})))
    assert (grown.n_clips, grown.n_to_do, grown.n_units) == (15, 4, 1)


def test_it_refuses_what_the_run_would_refuse(clips: Clips, tmp_path: Path) -> None:
    options = {"manifest": clips([6000]), "dataset": "d", "model": "logmel", "store": str(tmp_path / "s")}
    extract(ExtractConfig(**options))  # type: ignore[arg-type]
    with pytest.raises(FingerprintMismatch):
        dry_run([ExtractConfig(**options, normalisation="peak")])  # type: ignore[arg-type]


def test_the_command_prints_it_and_writes_nothing(clips: Clips, tmp_path: Path) -> None:
    arguments = [
        "extract",
        "-m",
        clips([6000, 9000]),
        "--dataset",
        "d",
        "--store",
        tmp_path / "s",
        "--dry-run",
    ]
    result = CliRunner().invoke(cli.main, [*map(str, arguments), "--model", "logmel", "--model", "mfcc"])
    assert result.exit_code == 0, result.output
    assert "logmel/d: 2 clips, 2 to embed" in result.stdout
    assert "mfcc/d: 2 clips" in result.stdout
    assert "in 1 file, before compression" in result.stdout
    assert "batches measured" in result.stdout
    assert "as stored under --codec fast" in result.stdout
    assert not (tmp_path / "s").exists()


def test_costs_are_fitted_by_a_constant_and_a_slope() -> None:
    assert _fit([(10, 3.0), (20, 5.0)], [10, 30]) == pytest.approx(3.0 + 7.0)
    assert _fit([(10, 5.0), (20, 3.0)], [30]) == pytest.approx(8.0)  # no such line: in proportion
    assert _fit([], [30]) == 0.0


@pytest.mark.slow  # a run under each codec
def test_bytes_under_each_codec_are_those_of_the_run(clips: Clips, tmp_path: Path) -> None:
    options = {"manifest": clips([5000 + 10 * i for i in range(40)]), "dataset": "d", "unit_rows": 40}
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    [estimate] = dry_run(configs_of([str(model)], [], **options, store=str(tmp_path / "none")))
    assert list(estimate.n_bytes_by_codec) == ["fast", "small", "half", "bitround10"]
    assert estimate.n_bytes_by_codec["fast"] == pytest.approx(estimate.n_bytes, rel=0.05)
    for name, expected in estimate.n_bytes_by_codec.items():
        codec, dtype = CODECS[name]
        how = {
            "codec": codec,
            "dtype": dtype,
            "store": str(tmp_path / name),
            "model": str(model),
            "selfcheck": 0,
        }
        extract(ExtractConfig(**options, **how))  # type: ignore[arg-type]
        stored = sum(path.stat().st_size for path in (tmp_path / name).glob("tiny/d/layer_*/c/*/*/*"))
        assert stored == pytest.approx(expected, rel=0.1), name
    sizes = estimate.n_bytes_by_codec
    assert sizes["bitround10"] < sizes["half"] < sizes["small"] < sizes["fast"]
    [with_frames] = dry_run(
        configs_of([str(model)], [], **options, store=str(tmp_path / "none"), frames=True)
    )
    assert with_frames.n_bytes_by_codec == {}


def test_a_codec_that_cannot_hold_the_values_is_left_out() -> None:
    values = np.full((3, 2, 8), 1e5, np.float32)
    assert set(row_bytes({0: values}, 1024)) == {"fast", "small", "bitround10"}
