from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.forward import batching
from extractors.forward.batching import (
    SHARE_OF_FREE,
    BatchCosts,
    Budget,
    first_batch,
    plan_batches,
    samples_that_fit,
)
from extractors.forward.windows import cut_windows
from featurestore.errors import ConfigError

lengths = st.lists(st.integers(1, 10_000), max_size=60)


def cut_batches(lengths: list[int], **limits: int) -> list[range]:
    """One batch after the other, until no clip is left."""
    batches: list[range] = []
    start = 0
    while start < len(lengths):
        n = first_batch(lengths[start:], **limits)
        batches.append(range(start, start + n))
        start += n
    return batches


@given(lengths, st.integers(1, 40_000), st.integers(1, 20))
def test_batches_are_consecutive_complete_and_within_budget(
    lengths: list[int], budget: int, max_clips: int
) -> None:
    batches = cut_batches(lengths, budget_samples=budget, max_clips=max_clips)
    assert [i for b in batches for i in b] == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= max_clips
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget


@given(lengths, st.integers(1, 40_000))
def test_no_batch_could_have_taken_the_next_clip(lengths: list[int], budget: int) -> None:
    batches = cut_batches(lengths, budget_samples=budget, max_clips=1000)
    for batch, following in itertools.pairwise(batches):
        wider = [*batch, following[0]]
        assert max(lengths[i] for i in wider) * len(wider) > budget


def cost(lengths: list[int], frames: list[int], batches: list[range], overhead: int) -> float:
    def of(batch: range) -> float:
        padded = max(lengths[i] for i in batch) * len(batch)
        return padded * (1.5 if len({frames[i] for i in batch}) > 1 else 1) + overhead

    return sum(map(of, batches))


@given(
    st.lists(st.integers(1, 100), max_size=9),
    st.integers(1, 400),
    st.integers(1, 5),
    st.integers(0, 60),
    st.integers(1, 50),
)
def test_planned_batches_are_the_cheapest_there_are(
    lengths: list[int], budget: int, max_clips: int, overhead: int, hop: int
) -> None:
    frames = [n // hop for n in lengths]
    planned = plan_batches(
        lengths,
        budget_samples=budget,
        max_clips=max_clips,
        overhead_samples=overhead,
        n_frames=frames,
        mask_share=0.5,
    )
    assert [i for b in planned for i in b] == list(range(len(lengths)))

    def allowed(batch: range) -> bool:
        fits = max(lengths[i] for i in batch) * len(batch) <= budget
        return len(batch) == 1 or (fits and len(batch) <= max_clips)

    assert all(map(allowed, planned))
    # Against all ways to cut.
    for n_cuts in range(max(1, len(lengths))):
        for cuts in itertools.combinations(range(1, len(lengths)), n_cuts):
            others = [range(a, b) for a, b in itertools.pairwise((0, *cuts, len(lengths))) if b > a]
            if all(map(allowed, others)):
                assert cost(lengths, frames, planned, overhead) <= cost(lengths, frames, others, overhead)


def test_costs_that_are_reckoned_in_parts_cut_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [16_000 - 37 * i for i in range(300)]
    limits = {"budget_samples": 100_000, "max_clips": 12, "overhead_samples": 4800, "mask_share": 0.1}
    frames = [n // 320 for n in lengths]
    whole = plan_batches(lengths, n_frames=frames, **limits)  # type: ignore[arg-type]
    monkeypatch.setattr(batching, "_PLANNED_AT_ONCE", 50)
    assert plan_batches(lengths, n_frames=frames, **limits) == whole  # type: ignore[arg-type]
    assert 30 < len(whole) < 300


def test_short_clips_are_not_padded_to_a_long_ones_length() -> None:
    lengths = [160_000, *[5000] * 20]
    batches = plan_batches(lengths, budget_samples=480_000, max_clips=256, overhead_samples=4800)
    assert batches == [range(1), range(1, 21)]


def test_clips_of_one_frame_count_keep_to_themselves_where_a_batch_costs_little() -> None:
    costs = BatchCosts(overhead_samples=2000, mask_share=0.1, hop_samples=320, receptive_samples=400)
    lengths = [5840] * 3 + [5839] * 2 + [5520] * 4 + [5200]  # 18, 17, 17 and 16 hops
    assert Budget(10**6, None, costs).cut(lengths) == [range(3), range(3, 9), range(9, 10)]
    dear = replace(costs, overhead_samples=50_000)
    assert Budget(10**6, None, dear).cut(lengths) == [range(10)]


FREE = 8 * 2**30


@dataclass
class Card:
    """A GPU as a model uses it: bytes whatever the batch, of each sample, of each and its clip's length."""

    fixed: float
    per_sample: float
    growth: float = 0.0
    free: float = FREE

    def needs(self, n_clips: int, n_samples: int) -> float:
        return self.fixed + n_clips * n_samples * (self.per_sample + self.growth * n_samples)

    def used(self, n_clips: int, n_samples: int) -> int | None:
        found = self.needs(n_clips, n_samples)
        return None if found > self.free else int(found)


@given(
    fixed=st.floats(0, 2e9),
    per_sample=st.floats(100, 50_000),
    growth=st.floats(0, 0.05),
    longest=st.integers(16_000, 480_000),
)
def test_what_is_said_to_fit_a_gpu_fits(fixed: float, per_sample: float, growth: float, longest: int) -> None:
    card = Card(fixed, per_sample, growth)
    most = 20_000_000
    fits = samples_that_fit(card.used, FREE, second=16_000, longest=longest, most=most)
    for length in (5000, 16_000, longest):
        n_clips = fits // length
        assert not n_clips or card.needs(n_clips, length) <= FREE


def test_a_workspace_is_not_taken_for_a_cost_of_every_sample() -> None:
    # A gigabyte of workspace beside 128,000 samples would be 8 KB for each.
    card = Card(fixed=2**30, per_sample=4000)
    fits = samples_that_fit(card.used, FREE, second=16_000, longest=16_000, most=10**9)
    assert fits == pytest.approx((SHARE_OF_FREE * FREE - 2**30) / 4000, rel=0.01)


def test_a_gpu_without_room_for_the_probes_is_given_less_than_they_took() -> None:
    assert samples_that_fit(lambda *_: None, FREE, second=16_000, longest=16_000, most=10**9) == 64_000
    small = Card(fixed=0, per_sample=FREE / 200_000)
    assert samples_that_fit(small.used, FREE, second=16_000, longest=16_000, most=10**9) == 120_000


def test_fixed_inputs_count_as_their_full_window() -> None:
    batches = cut_batches([1] * 5, budget_samples=960_000, max_clips=9, fixed_samples=480_000)
    assert batches == [range(2), range(2, 4), range(4, 5)]


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        cut_batches([1], budget_samples=0, max_clips=1)


@given(st.integers(1, 5000), st.integers(50, 400), st.integers(1, 25))
def test_windows_cover_every_sample_once(n: int, longest: int, shortest: int) -> None:
    windows = cut_windows(7, n, longest, shortest)
    assert [s for w in windows for s in range(w.start, w.start + w.n_samples)] == list(range(n))
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True]
    assert all(w.row == 7 and w.n_samples <= longest for w in windows)
    assert len(windows) == 1 or all(w.n_samples >= shortest for w in windows)
