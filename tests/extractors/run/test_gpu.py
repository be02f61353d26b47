"""On a CUDA device: what is stored equals transformers' model at batch 1 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from extractors import ExtractConfig, extract
from extractors.forward.functionals import fetch, finish, reduce_frames
from featurestore import open_store
from tests.extractors.models.test_parity import LENGTHS, mean_std, prepared
from tests.models import save_ssl

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
Clips = Callable[..., Path]


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["hubert", "wavlm", "wav2vec2", "data2vec-audio"])
def test_it_equals_batch_one_on_the_cpu(
    clips: Clips, tmp_path: Path, family: str, precision: str, device: str
) -> None:
    folder = save_ssl(tmp_path / "tiny", family, "base", do_normalize=False)
    manifest = clips(LENGTHS)
    reference = AutoModel.from_pretrained(folder).eval()
    summary = extract(
        ExtractConfig(
            manifest=manifest,
            dataset="d",
            model=str(folder),
            store=str(tmp_path / "s"),
            device=device,
            precision=precision,  # type: ignore[arg-type]
            unit_rows=4,
        )
    )
    assert summary.failed == {}
    features = open_store(tmp_path / "s").features("tiny", "d")
    stored = [features.layer(k).numpy() for k in features.layers]
    for row, utterance in enumerate(features.index["utterance_id"]):
        signal = prepared(manifest.parent / f"{utterance}.wav", normalise=False)
        with torch.no_grad():
            states = reference(torch.from_numpy(signal)[None], output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            expected, found = mean_std(state[0]), stored[layer][row]
            if precision == "fp32":
                assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
            else:
                norms = np.linalg.norm(found) * np.linalg.norm(expected)
                assert float((found * expected).sum()) / norms > 0.999


def test_nothing_waits_for_the_device_layer_by_layer() -> None:
    frames = torch.randn(5, 40, 16, device="cuda")
    names = ("mean", "std", "min", "max", "median", "first", "last")
    n_valid = [40, 12, 2, 40, 7]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        queued = [reduce_frames(frames * k, n_valid, names) for k in (1.0, 2.0, 3.0)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for k, found in zip((1.0, 2.0, 3.0), fetch(queued), strict=True):
        (host,) = fetch([reduce_frames(frames.cpu() * k, n_valid, names)])
        np.testing.assert_allclose(finish(found, names), finish(host, names), rtol=1e-5, atol=1e-6)
