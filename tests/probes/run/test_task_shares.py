"""How tasks are cut to the workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from featurestore.fingerprint import digest, digest_items
from probes.questions.tasks import FitSpec, ProbeTask
from probes.run.task_shares import MOST_FITS, bundles


def task(layer: int, n_fits: int) -> ProbeTask:
    return ProbeTask(
        store="s",
        model="m",
        dataset="d",
        label="l",
        layers=(layer,),
        classifier="mlp",
        split="random",
        split_seed=0,
        fold=0,
        data="0",
        fits=tuple(FitSpec(hparams="{}", seed=i) for i in range(n_fits)),
    )


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(1, 40))
def test_every_fit_is_in_one_bundle_and_no_worker_idles(sizes: list[int], n_workers: int) -> None:
    tasks = [task(layer, n) for layer, n in enumerate(sizes)]
    cut = bundles(tasks, n_workers)
    assert sorted((t.layer, f) for t in cut for f in t.fits) == [(t.layer, f) for t in tasks for f in t.fits]
    assert all(1 <= len(t.fits) <= MOST_FITS for t in cut)
    assert len(cut) >= min(n_workers, sum(sizes))
    assert len({t.fingerprint for t in cut}) == len(cut)


def test_tasks_that_keep_all_workers_busy_stay_whole() -> None:
    tasks = [task(layer, 40) for layer in range(13)]
    assert bundles(tasks, 2) == tasks
    assert [len(t.fits) for t in bundles([task(0, 100)], 1)] == [50, 50]
    assert bundles([], 3) == []


def test_a_digest_item_by_item_is_that_of_the_list() -> None:
    items = [{"b": 1, "a": [2.5, "ñ"]}, ["x", "y"], []]
    assert digest_items(iter(items)) == digest(items)
    assert digest_items([]) == digest([])
