"""What every extractor owes the pipeline, whatever its family."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from extractors import find_model
from extractors.models.interface import Extractor
from tests.extractors.conftest import MODELS

RELATIVE = 1e-5
# Unsorted, with equal ones (which share a batch without a mask), down to very short ones.
LENGTHS = (12_001, 5000, 9001, 15_000, 5000, 1200, 9000, 1110)


def make_clips(lengths: Sequence[int]) -> list[np.ndarray]:
    """Tone and noise of different loudness, so that a neighbour's samples would be seen."""
    rng = np.random.default_rng(0)
    return [
        ((0.4 + 0.3 * (i % 5)) * (np.sin(0.02 * (i + 3) * np.arange(n)) + rng.standard_normal(n))).astype(
            np.float32
        )
        for i, n in enumerate(lengths)
    ]


def embed(
    extractor: Extractor, clips: Sequence[np.ndarray], layers: Sequence[int] | None = None
) -> dict[int, list[np.ndarray]]:
    """Layer → valid frames `[t, d]` of each clip."""
    found: dict[int, list[np.ndarray]] = {}

    def on_layer(layer: int, frames: torch.Tensor, n_valid: Sequence[int]) -> None:
        assert layer not in found
        assert len(n_valid) == len(clips) == frames.shape[0]
        assert max(n_valid) <= frames.shape[1]
        found[layer] = [frames[i, :n].float().cpu().numpy().copy() for i, n in enumerate(n_valid)]

    extractor.forward(clips, list(range(extractor.card.n_layers)) if layers is None else layers, on_layer)
    return found


def worst(got: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Largest deviation of any clip against its own largest value."""
    assert [g.shape for g in got] == [e.shape for e in expected]
    return max(float(np.abs(g - e).max() / np.abs(e).max()) for g, e in zip(got, expected, strict=True))


def shortest(extractor: Extractor) -> int:
    """Fewest samples that give a frame."""
    short, long = 0, extractor.card.sample_rate_hz
    while long - short > 1:
        middle = (short + long) // 2
        if extractor.n_frames(middle) > 0:
            long = middle
        else:
            short = middle
    return long


# Near relatives of another kind, which is not among these.
SLOW = (
    *("unispeech-base", "conformer-rotary", "sew-layer-norm"),
    *("clap", "clap-fused-stage", "convnext", "efficientnet"),
)


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in sorted(MODELS)],
)
def extractor(request: pytest.FixtureRequest, model_spec: Callable[[str], str]) -> Extractor:
    return find_model(model_spec(request.param)).load("cpu", "fp32")


@pytest.fixture(scope="module")
def alone(extractor: Extractor) -> list[dict[int, list[np.ndarray]]]:
    """Every clip at batch 1."""
    return [embed(extractor, [clip]) for clip in make_clips(LENGTHS)]


def test_a_batch_gives_every_clip_what_it_gets_alone(
    extractor: Extractor, alone: list[dict[int, list[np.ndarray]]]
) -> None:
    together = embed(extractor, make_clips(LENGTHS))
    assert list(together) == list(range(extractor.card.n_layers))
    for layer, clips in together.items():
        assert all(np.isfinite(c).all() and c.shape[1] == extractor.card.n_features for c in clips)
        assert worst(clips, [a[layer][0] for a in alone]) < RELATIVE, layer


def test_the_order_of_a_batch_changes_nothing(
    extractor: Extractor, alone: list[dict[int, list[np.ndarray]]]
) -> None:
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    clips = make_clips(LENGTHS)
    shuffled = embed(extractor, [clips[i] for i in order])
    for layer, found in shuffled.items():
        assert worst(found, [alone[i][layer][0] for i in order]) < RELATIVE, layer


def test_clips_of_one_length_share_a_batch(extractor: Extractor) -> None:
    clips = make_clips((6000, 6000, 6000))
    together = embed(extractor, clips)
    for i, clip in enumerate(clips):
        for layer, frames in embed(extractor, [clip]).items():
            assert worst([together[layer][i]], frames) < RELATIVE, layer


def test_frames_are_as_many_as_foretold_and_never_fewer_for_longer_clips(
    extractor: Extractor, alone: list[dict[int, list[np.ndarray]]]
) -> None:
    for n, states in zip(LENGTHS, alone, strict=True):
        assert all(len(frames) == extractor.n_frames(n) for [frames] in states.values()), n
    lengths = [*range(1, 3000, 37), *LENGTHS, shortest(extractor)]
    assert all(extractor.n_frames(n) <= -(-n // extractor.card.hop_samples) + 2 for n in lengths)
    counts = [extractor.n_frames(n) for n in sorted(lengths)]
    assert counts == sorted(counts)
    assert extractor.n_frames(0) == 0
    receptive, hop = extractor.card.receptive_samples, extractor.card.hop_samples
    if receptive is not None:
        assert counts == [max(0, (n - receptive) // hop + 1) for n in sorted(lengths)]


def test_some_layers_are_the_same_as_among_all(extractor: Extractor) -> None:
    clips = make_clips(LENGTHS[:3])
    every = embed(extractor, clips)
    last = extractor.card.n_layers - 1
    for wanted in ([0], [last], sorted({0, last}), sorted({last // 2})):
        some = embed(extractor, clips, wanted)
        assert list(some) == wanted
        for layer in wanted:
            for got, expected in zip(some[layer], every[layer], strict=True):
                np.testing.assert_array_equal(got, expected)


def test_nothing_runs_past_the_last_layer_wanted(extractor: Extractor) -> None:
    if extractor.card.n_layers == 1:
        pytest.skip("has one layer")
    calls = 0

    def count(module: torch.nn.Module, inputs: object, output: object) -> None:
        nonlocal calls
        calls += 1

    by_layer = []
    for layer in range(extractor.card.n_layers):
        calls = 0
        handle = torch.nn.modules.module.register_module_forward_hook(count)
        try:
            embed(extractor, make_clips([5000]), [layer])
        finally:
            handle.remove()
        by_layer.append(calls)
    if not any(by_layer):
        pytest.skip("no PyTorch modules; test_birdnet.py counts its operators")
    assert all(a < b for a, b in itertools.pairwise(by_layer)), by_layer


def test_the_same_clips_give_the_same_bits(extractor: Extractor) -> None:
    clips = make_clips(LENGTHS[:4])
    first, second = embed(extractor, clips), embed(extractor, clips)
    for layer in first:
        for a, b in zip(first[layer], second[layer], strict=True):
            np.testing.assert_array_equal(a, b)


def test_too_short_clips_are_foretold_and_refused(extractor: Extractor) -> None:
    fewest = shortest(extractor)
    long = make_clips([7000])[0]
    [short] = make_clips([fewest])
    assert extractor.n_frames(fewest) >= 1
    mixed = embed(extractor, [long, short])
    for layer, frames in embed(extractor, [short]).items():
        assert len(frames[0]) == extractor.n_frames(fewest)
        # One frame may be all zeros (of one frame nothing varies), so measure against the batch.
        scale = max(float(np.abs(f).max()) for f in mixed[layer])
        assert float(np.abs(mixed[layer][1] - frames[0]).max()) < RELATIVE * scale
    if fewest > 1:
        assert extractor.n_frames(fewest - 1) == 0
        for batch in ([short[:-1]], [long, short[:-1]]):
            with pytest.raises(ValueError, match="gives no frame"):
                embed(extractor, batch)


@pytest.fixture(params=sorted(MODELS))
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


def test_cards_and_fingerprints_can_be_stored_and_are_stable(
    kind: str, model_spec: Callable[[str], str]
) -> None:
    first, second = find_model(model_spec(kind)), find_model(model_spec(kind))
    assert json.loads(json.dumps(dataclasses.asdict(first.card))) == dataclasses.asdict(second.card)
    assert json.loads(json.dumps(first.fingerprint())) == json.loads(json.dumps(second.fingerprint()))
    assert first.card.trained is not kind.startswith(("untrained", "logmel", "mfcc", "catch22"))


@pytest.mark.gpu
def test_a_cuda_device_gives_what_the_cpu_gives(kind: str, model_spec: Callable[[str], str]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    source = find_model(model_spec(kind))
    clips = make_clips(LENGTHS)
    expected = embed(source.load("cpu", "fp32"), clips)
    for layer, frames in embed(source.load("cuda", "fp32"), clips).items():
        assert worst(frames, expected[layer]) < 1e-4, layer
    for layer, frames in embed(source.load("cuda", "bf16"), clips).items():
        for got, wanted in zip(frames, expected[layer], strict=True):
            a, b = got.mean(0), wanted.mean(0)
            assert float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) >= 0.999, layer
