"""Units done by other processes: on devices of this machine and on a cluster, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch

from extractors.config import ExtractConfig, configs_of
from extractors.run.audio_changes import CheckedKey
from extractors.run.dispatch import run_on_devices
from extractors.run.extraction import extract, extract_all, open_job
from extractors.run.plan import plan_run
from extractors.run.worker import LoadedModels, UnitsTask, do_units
from featurestore.errors import ConfigError, FingerprintMismatch, ProcessLost
from featurestore.format import row_arrays
from tests.extractors.registered import register
from tests.extractors.run.test_extraction import embeddings
from tests.models import save_ssl

Clips = Callable[..., Path]


def kill_a_worker(store: Path, key: str) -> tuple[threading.Thread, list[int]]:
    """Kill whoever holds a unit once two units are committed; its process id comes in the list."""
    killed: list[int] = []

    def watch() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not killed:
            time.sleep(0.02)
            if len(list((store / key / "ledger" / "c").glob("[0-9]*"))) < 2:
                continue
            for claim in (store / key / "claims" / "c").glob("[0-9]*"):
                try:
                    pid = json.loads(row_arrays.decode_text(claim.read_bytes(), compress=False))["pid"]
                except (OSError, ValueError):
                    continue  # released at this very moment
                if pid != os.getpid():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread, killed


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"device": "cpu,cpu"}, {"cluster": "local:2"}], ids=["devices", "cluster"])
def test_two_workers_one_killed_equal_one_process(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, str]
) -> None:
    if "cluster" in how:
        pytest.importorskip("distributed")
    register(tmp_path / "site", monkeypatch, slow="tests.extractors.registered:Slow")
    manifest = clips([5000 + 613 * (i % 7) for i in range(36)])
    (manifest.parent / "clip003.wav").write_text("no audio")
    options = {"manifest": manifest, "dataset": "d", "model": "slow", "unit_rows": 2, "name": "m"}
    thread, killed = kill_a_worker(tmp_path / "s", "m/d")
    seen = []
    summary = extract(ExtractConfig(**options, store=str(tmp_path / "s"), **how), seen.append)  # type: ignore[arg-type]
    thread.join()
    assert len(killed) == 1
    quiet = extract(ExtractConfig(**options, store=str(tmp_path / "quiet")))  # type: ignore[arg-type]
    for partial in (tmp_path / "s").rglob("*.partial"):
        partial.unlink()
    assert embeddings(tmp_path / "s") == embeddings(tmp_path / "quiet")
    assert (summary.n_clips, summary.n_embedded) == (36, 36)
    assert summary.failed == quiet.failed == {"clip003": summary.failed["clip003"]}
    assert summary.n_bytes == quiet.n_bytes
    assert summary.audio_s == pytest.approx(quiet.audio_s, abs=0.1)
    assert summary.selfcheck is not None
    assert summary.selfcheck.beyond is None
    if "device" in how:
        assert any("was lost (signal 9)" in note for note in summary.notes)
    assert seen[-1].clips_done >= 34
    assert list((tmp_path / "s" / "m" / "d" / "claims" / "c").glob("[0-9]*")) == []


def end_at_once(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_that_all_processes_are_lost_is_no_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.run.dispatch._child", end_at_once)
    task = SimpleNamespace(parts=[SimpleNamespace(device="cpu")])
    with pytest.raises(ProcessLost, match=r"lost \(cpu: signal 9\), most often for want of memory"):
        run_on_devices([task])  # type: ignore[list-item]


@pytest.mark.slow
def test_several_models_on_several_processes(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([5000 + 613 * i for i in range(7)])
    hubert = save_ssl(tmp_path / "tiny", "hubert", "base", do_normalize=True)
    options = {"manifest": manifest, "dataset": "d", "unit_rows": 2}
    models = [str(hubert), "logmel"]
    apart = extract_all(configs_of(models, [], **options, store=str(tmp_path / "apart")))
    # Processes of daemonic processes.
    how = {"device": "cpu,cpu", "decode": "processes", "workers": 2}
    spread = extract_all(configs_of(models, [], **options, **how, store=str(tmp_path / "s")))
    assert embeddings(tmp_path / "s") == embeddings(tmp_path / "apart")
    assert [s.n_embedded for s in spread] == [s.n_embedded for s in apart] == [7, 7]
    assert [s.device for s in spread] == ["cpu, cpu"] * 2


@pytest.mark.slow
def test_a_mistake_in_a_process_is_the_users_one_line(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights change between planning and the start of the processes."""
    import extractors.run.extraction

    manifest = clips([6000, 7000])
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    spread = extractors.run.extraction.run_distributed

    def change_weights_first(*args: object, **kwargs: object) -> object:
        save_ssl(tmp_path / "tiny", "hubert", "base", seed=9)
        return spread(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(extractors.run.extraction, "run_distributed", change_weights_first)
    options = {"manifest": manifest, "dataset": "d", "model": str(model), "store": str(tmp_path / "s")}
    with pytest.raises(FingerprintMismatch, match="weights_sha256"):
        extract(ExtractConfig(**options, device="cpu,cpu"))  # type: ignore[arg-type]


def test_devices_that_do_not_exist_and_clusters_that_cannot_be_are_refused(
    tmp_path: Path, clips: Clips
) -> None:
    import torch

    options = {"manifest": clips([6000]), "dataset": "d", "model": "logmel", "store": str(tmp_path / "s")}
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device on this machine"):
            extract(ExtractConfig(**options, device="cuda:all"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--device: expected auto"):
        extract(ExtractConfig(**options, device="cpu,gpu"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected local, local:N"):
        ExtractConfig(**options, cluster="somewhere")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected one device, that of a worker"):
        ExtractConfig(**options, cluster="local:2", device="cpu,cpu")  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


def test_a_worker_that_outlives_its_weights_refuses_other_ones(clips: Clips, tmp_path: Path) -> None:
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    given = ExtractConfig(
        manifest=clips([6000] * 4),
        dataset="noise",
        model=str(model),
        store=str(tmp_path / "s"),
        unit_rows=2,
        device="cpu",
    )
    plan = plan_run([given])
    job, _ = open_job(plan.keys[0], plan, CheckedKey())
    models: LoadedModels = {}
    do_units(UnitsTask(parts=(job.part(job.units[:1], "cpu"),)), models)
    weights = safetensors.torch.load_file(model / "model.safetensors")
    safetensors.torch.save_file({k: v + 1 for k, v in weights.items()}, model / "model.safetensors")
    with pytest.raises(FingerprintMismatch, match="made with other settings"):
        do_units(UnitsTask(parts=(job.part(job.units[1:], "cpu"),)), models)
