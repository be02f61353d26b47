from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.forward.batching import first_batch, plan_batches
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


def cost(lengths: list[int], batches: list[range], overhead: int) -> int:
    return sum(max(lengths[i] for i in b) * len(b) + overhead for b in batches)


@given(st.lists(st.integers(1, 100), max_size=9), st.integers(1, 400), st.integers(1, 5), st.integers(0, 60))
def test_planned_batches_are_the_cheapest_there_are(
    lengths: list[int], budget: int, max_clips: int, overhead: int
) -> None:
    planned = plan_batches(lengths, budget_samples=budget, max_clips=max_clips, overhead_samples=overhead)
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
                assert cost(lengths, planned, overhead) <= cost(lengths, others, overhead)


def test_short_clips_are_not_padded_to_a_long_ones_length() -> None:
    lengths = [160_000, *[5000] * 20]
    batches = plan_batches(lengths, budget_samples=480_000, max_clips=256, overhead_samples=4800)
    assert batches == [range(1), range(1, 21)]


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
