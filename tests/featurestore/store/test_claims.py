from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.backends.storage import Storage
from featurestore.errors import ConfigError
from featurestore.store.claims import EXPIRY_S, Claims, renewing
from featurestore.store.plan import Segment, Share, parse_share, share_of_job_array, units_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def claim_of_other_machine(storage: Storage, unit: int, worker: str = "other", beat: int = 0) -> None:
    from featurestore.format import row_arrays

    text = f'{{"worker": "{worker}", "host": "elsewhere", "pid": 1, "beat": {beat}}}'
    storage.put(f"m/d/claims/c/{unit}", row_arrays.encode_text(text, compress=False))


def test_a_unit_has_one_owner(storage: Storage) -> None:
    a, b = Claims(storage, "m/d"), Claims(storage, "m/d")
    assert a.take(3)
    assert not b.take(3)
    assert b.take(4)
    a.release(3)
    assert b.take(3)


def test_releasing_leaves_other_owners_alone(storage: Storage) -> None:
    a, b = Claims(storage, "m/d"), Claims(storage, "m/d")
    assert a.take(0)
    b.release(0)
    assert not b.take(0)


def test_a_claim_that_is_not_renewed_expires_by_the_waiters_clock(storage: Storage) -> None:
    clock = Clock()
    claim_of_other_machine(storage, 7)
    mine = Claims(storage, "m/d", clock=clock)
    assert not mine.take(7)
    clock.now = EXPIRY_S - 1
    assert not mine.take(7)
    clock.now = EXPIRY_S + 1
    assert mine.take(7)


def test_a_renewed_claim_lives_on(storage: Storage) -> None:
    clock = Clock()
    mine = Claims(storage, "m/d", clock=clock)
    for beat in range(5):
        claim_of_other_machine(storage, 7, beat=beat)
        assert not mine.take(7)
        clock.now += EXPIRY_S - 1


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: object) -> None:
    script = (
        "import sys\nfrom featurestore.backends.storage import open_storage\n"
        "from featurestore.store.claims import Claims\n"
        "assert Claims(open_storage(sys.argv[1]), 'm/d').take(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    from featurestore.backends.storage import open_storage

    assert Claims(open_storage(str(tmp_path)), "m/d").take(0)


def test_a_damaged_claim_holds_nothing(storage: Storage) -> None:
    storage.put("m/d/claims/c/0", b"rubbish")
    assert Claims(storage, "m/d").take(0)


def test_the_heartbeat_renews_what_is_held(storage: Storage) -> None:
    claims = Claims(storage, "m/d")
    claims.take(2)
    before = storage.get("m/d/claims/c/2")
    with renewing(claims, every_s=0.01):
        deadline = threading.Event()
        for _ in range(500):
            if storage.get("m/d/claims/c/2") != before:
                break
            deadline.wait(0.01)
        assert storage.get("m/d/claims/c/2") not in (None, before)
    assert storage.get("m/d/claims/c/2") is None


@given(st.integers(1, 200), st.integers(1, 9))
def test_shares_are_disjoint_cover_all_and_differ_by_one_at_most(n_rows: int, count: int) -> None:
    units = units_of([Segment(first_row=0, n_rows=n_rows)], 4)
    parts = [Share(index=i, count=count).of(units) for i in range(1, count + 1)]
    assert sorted(u.index for p in parts for u in p) == [u.index for u in units]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_wrong_shares_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--share: expected i/n"):
        parse_share(text)


def test_a_job_array_task_knows_its_share() -> None:
    def task(number: int, first: int, last: int, count: int, step: int = 1) -> Share | None:
        return share_of_job_array(
            {
                "SLURM_ARRAY_TASK_ID": str(number),
                "SLURM_ARRAY_TASK_MIN": str(first),
                "SLURM_ARRAY_TASK_MAX": str(last),
                "SLURM_ARRAY_TASK_COUNT": str(count),
                "SLURM_ARRAY_TASK_STEP": str(step),
            }
        )

    assert task(0, 0, 7, 8) == Share(index=1, count=8)
    assert task(5, 1, 7, 4, 2) == Share(index=3, count=4)
    assert task(4, 1, 9, 3) is None  # --array=1,4,9 has gaps
    assert task(3, 3, 3, 1) is None
    assert share_of_job_array({}) is None
