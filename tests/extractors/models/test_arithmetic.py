"""What the process's switches are while a model runs, and after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extractors import ExtractConfig, extract, find_model
from extractors.models.arithmetic import arithmetic, products_in
from extractors.run.audio_changes import CheckedKey
from extractors.run.extraction import open_job
from extractors.run.plan import plan_run
from extractors.run.worker import UnitsTask, do_units
from tests.extractors.registered import Asked, register
from tests.models import save_ssl

Clips = Callable[..., Path]
OFF, ON = (False, False, "highest"), (True, True, "high")


def switches() -> dict[str, Any]:
    backends: Any = torch.backends
    found = {
        "matmul": backends.cuda.matmul.allow_tf32,
        "cudnn": backends.cudnn.allow_tf32,
        "float32": torch.get_float32_matmul_precision(),
    }
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        found |= {
            "mkldnn": backends.mkldnn.matmul.fp32_precision,
            "conv": backends.cudnn.conv.fp32_precision,
            "rnn": backends.cudnn.rnn.fp32_precision,
        }
    return found


@pytest.fixture(autouse=True)
def left_as_they_were() -> Iterator[None]:
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    Asked.seen.clear()
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn


def test_a_cached_model_runs_in_the_precision_of_its_job(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path / "site", monkeypatch, asked="tests.extractors.registered:Asked")
    jobs, models = {}, {}  # type: ignore[var-annotated]
    for precision in ("fp32", "tf32", "bf16"):
        given = ExtractConfig(
            manifest=clips([6000] * 6),
            dataset="d",
            model="asked",
            name=precision,
            precision=precision,  # type: ignore[arg-type]
            store=str(tmp_path / "s"),
            unit_rows=2,
            device="cpu",
        )
        plan = plan_run([given])
        jobs[precision] = open_job(plan.keys[0], plan, CheckedKey())[0]
    # As tasks of several runs reach one worker: all models are cached after the first three.
    for i in range(3):
        for precision, job in jobs.items():
            Asked.seen.clear()
            do_units(UnitsTask(parts=(job.part(job.units[i : i + 1], "cpu"),)), models)
            assert set(Asked.seen) == {ON if precision == "tf32" else OFF}, (precision, i)


def test_several_clips_and_the_check_afterwards_are_embedded_alike(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path / "site", monkeypatch, asked="tests.extractors.registered:Asked")
    torch.set_float32_matmul_precision("medium")
    before = switches()
    extract(
        ExtractConfig(
            manifest=clips([6000, 7000, 9000]),
            dataset="d",
            model="asked",
            store=str(tmp_path / "s"),
            unit_rows=1,
            device="cpu",
            selfcheck=2,
        )
    )
    assert len(Asked.seen) >= 5
    assert set(Asked.seen) == {OFF}
    assert switches() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_an_extractor_used_by_itself_sets_the_switches_around_its_forward(
    tmp_path: Path, precision: Any
) -> None:
    source = find_model(str(save_ssl(tmp_path / "tiny", "hubert", "base")))
    extractor = source.load("cpu", precision)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    before, seen = switches(), []
    clip = np.random.default_rng(0).standard_normal(8000).astype(np.float32)

    def on_layer(layer: int, frames: torch.Tensor, n_valid: object) -> None:
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))

    extractor.forward([clip], [0, 1], on_layer)
    assert seen == [(precision == "tf32",) * 2] * 2
    assert switches() == before


def test_a_callers_own_autocast_and_reduced_products_change_no_value(tmp_path: Path) -> None:
    extractor = find_model(str(save_ssl(tmp_path / "tiny", "hubert", "base"))).load("cpu", "fp32")
    clip = np.random.default_rng(0).standard_normal(8000).astype(np.float32)

    def embedded() -> list[np.ndarray]:
        found: list[np.ndarray] = []
        extractor.forward([clip], [0, 2], lambda layer, x, n: found.append(x.float().numpy().copy()))
        return found

    expected = embedded()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = embedded()
    for a, b in zip(expected, within, strict=True):
        np.testing.assert_array_equal(a, b)


def _fail(within: Any) -> None:
    with within:
        assert not torch.backends.cuda.matmul.allow_tf32
        raise RuntimeError("mine")


def test_the_switches_are_put_back_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    before = switches()
    for within in (products_in("fp32"), arithmetic(torch.device("cpu"), "bf16")):
        with pytest.raises(RuntimeError, match="mine"):
            _fail(within)
        assert switches() == before


def test_threads_of_other_precisions_wait_for_one_another() -> None:
    """A worker with threads: what one turns on must not reach what another computes."""
    wrong: list[object] = []

    def work(precision: Any) -> None:
        for _ in range(60):
            with products_in(precision):
                for _ in range(5):
                    if torch.backends.cuda.matmul.allow_tf32 != (precision == "tf32"):
                        wrong.append(precision)

    before = switches()
    threads = [threading.Thread(target=work, args=(p,)) for p in ("fp32", "tf32", "bf16", "tf32")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not wrong
    assert switches() == before
