"""Which clips are decoded together, and when."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extractors.run.pipeline import TASK_CLIPS, TASK_SAMPLES, SharedClips, decoding_tasks
from featurestore.manifest.location import Location


@given(st.lists(st.integers(1, 2 * TASK_SAMPLES), max_size=100))
def test_tasks_are_consecutive_complete_and_bounded(lengths: list[int]) -> None:
    tasks = decoding_tasks(lengths)
    assert [row for task in tasks for row in task] == list(range(len(lengths)))
    for task in tasks:
        assert 1 <= len(task) <= TASK_CLIPS
        assert len(task) == 1 or max(lengths[row] for row in task) * len(task) <= TASK_SAMPLES


def test_tasks_of_short_clips_do_not_end_with_a_batch() -> None:
    assert decoding_tasks([5000] * 60) == [range(26), range(26, 52), range(52, 60)]


def test_a_clip_is_decoded_once_and_let_go_when_all_models_have_asked() -> None:
    n, decoded = 100, []

    def load(places: Sequence[Location]) -> Any:
        decoded.extend(places)
        return [{"policy": place[0]} for place in places]

    where: list[Location | None] = [(f"{i}.wav", 0.0, 1.0, None) for i in range(n)]
    where[40] = None
    # Models whose batches are cut elsewhere, and which go side by side.
    cuts = [(0, 0, 7), (1, 0, 19), (0, 7, 60), (1, 19, 90), (0, 60, 100), (1, 90, 100)]
    with ThreadPoolExecutor(2) as pool:
        clips = SharedClips(pool, where, decoding_tasks([5000] * n), load, 2)
        for _, start, stop in cuts:
            asked = clips.request(range(start, stop))
            names = [None if c is None else c.clip("policy") for c in asked]  # type: ignore[arg-type]
            assert names == [None if i == 40 else f"{i}.wav" for i in range(start, stop)]
            # No further ahead than the end of a task.
            assert len(decoded) < stop + TASK_CLIPS
        assert not clips._ahead
    assert sorted(decoded) == sorted(place for place in where if place is not None)
