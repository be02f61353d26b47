"""Several models in one run, and running out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import extractors.audio.waveform
from extractors.config import ExtractConfig, configs_of
from extractors.forward.batching import Budget
from extractors.forward.embedder import Embedder
from extractors.run.extraction import extract, extract_all
from featurestore import open_store
from featurestore.errors import ConfigError, FingerprintMismatch, ModelError
from studies.terminal.console import print_extract_summary
from tests.extractors.registered import register
from tests.extractors.run.test_extraction import embeddings
from tests.models import save_ssl

Clips = Callable[..., Path]
LAB = "tests.extractors.registered"


def options(manifest: Path, store: Path, **more: object) -> dict[str, object]:
    return {"manifest": manifest, "dataset": "noise", "store": str(store), "unit_rows": 4} | more


@pytest.mark.slow
def test_models_of_one_run_hold_what_runs_of_their_own_would(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = clips([5000 + 613 * (i % 7) for i in range(18)])
    (manifest.parent / "clip003.wav").write_text("no audio")
    hubert = save_ssl(tmp_path / "hubert-tiny", "hubert", "base", do_normalize=True)
    models = [str(hubert), "logmel", "mfcc"]  # another policy each: normalisation, short clips
    for model in models:
        extract(ExtractConfig(**options(manifest, tmp_path / "apart", model=model, batch_seconds=1.0)))  # type: ignore[arg-type]

    decoded = []
    opened = extractors.audio.waveform.open_stretch
    monkeypatch.setattr(
        extractors.audio.waveform, "open_stretch", lambda *a: (decoded.append(a[0]), opened(*a))[1]
    )
    configs = configs_of(models, [], **options(manifest, tmp_path / "s", batch_seconds=1.0, selfcheck=0))
    seen = []
    summaries = extract_all(configs, seen.append)
    assert [s.key for s in summaries] == ["hubert-tiny/noise", "logmel/noise", "mfcc/noise"]
    assert [set(s.failed) for s in summaries] == [{"clip003"}] * 3
    assert seen[-1].clips_done == seen[-1].clips_total == 3 * 18
    assert embeddings(tmp_path / "s") == embeddings(tmp_path / "apart")
    assert len(decoded) == 18
    given = options(manifest, tmp_path / "p", batch_seconds=1.0, selfcheck=0, decode="processes", workers=2)
    extract_all(configs_of(models, [], **given))
    assert embeddings(tmp_path / "p") == embeddings(tmp_path / "apart")
    assert len(decoded) == 18  # none here


def test_the_time_of_the_model_is_not_that_of_decoding_or_of_other_models(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips([6000] * 4)
    spent: dict[object, float] = {}
    inside: list[object] = []
    settle, queue, decode = Embedder.settle, Embedder.queue, extractors.audio.waveform.open_stretch

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Embedder, *given: object) -> Any:
            inside.append(self)
            began = time.perf_counter()
            found = method(self, *given)
            if inside.count(self) == 1:  # `queue` settles what was queued before
                spent[self] = spent.get(self, 0.0) + time.perf_counter() - began
            inside.remove(self)
            return found

        return call

    def slowly(*given: object) -> object:
        time.sleep(0.05)
        return decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "queue", timed(queue))
    monkeypatch.setattr(Embedder, "settle", timed(settle))
    monkeypatch.setattr(extractors.audio.waveform, "open_stretch", slowly)
    configs = configs_of(["logmel", "mfcc"], [], **options(manifest, tmp_path / "s", workers=1, selfcheck=0))
    summaries = extract_all(configs)
    for summary, seconds in zip(summaries, spent.values(), strict=True):
        assert summary.forward_s == pytest.approx(seconds, abs=0.02)
        assert summary.run_s > summary.forward_s + 0.2  # four clips decoded one by one
        assert summary.elapsed_s > summary.run_s
        print_extract_summary(summary, "s")
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("by 2 models together on cpu (the model alone") == 2
    assert "real time" not in said


def test_keys_with_other_rows_run_one_after_the_other(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000] * 6)
    extract(ExtractConfig(**options(manifest, tmp_path / "s", model="logmel", unit_rows=5)))  # type: ignore[arg-type]
    table = manifest.read_text()
    clips([6000] * 6 + [7000] * 3)
    assert manifest.read_text() != table
    summaries = extract_all(configs_of(["logmel", "mfcc"], [], **options(manifest, tmp_path / "s")))
    assert [s.n_embedded for s in summaries] == [3, 9]
    store = open_store(tmp_path / "s")
    assert [len(store.features(m, "noise").index) for m in ("logmel", "mfcc")] == [9, 9]


def test_two_models_for_one_key_are_refused_before_anything_is_made(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000])
    with pytest.raises(ConfigError, match="would both be x/noise; give each a --name"):
        extract_all(configs_of(["logmel", "mfcc"], ["x", "x"], **options(manifest, tmp_path / "s")))
    with pytest.raises(ConfigError, match="expected one for each --model"):
        configs_of(["logmel", "mfcc"], ["x"], **options(manifest, tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def test_running_out_of_memory_halves_the_batches_and_goes_on(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path / "site", monkeypatch, small=f"{LAB}:SmallMemory")
    manifest = clips([6000 + 10 * i for i in range(15)] + [90_000])
    common = options(manifest, tmp_path / "s", unit_rows=16)
    summary = extract(ExtractConfig(**common, model="small:30000", name="small"))  # type: ignore[arg-type]
    assert summary.failed == {"clip015": "out of memory: 5.6 s of audio do not fit this device"}
    assert any(n.startswith("memory ran out: batches were halved") for n in summary.notes)
    extract(ExtractConfig(**common, model="logmel"))  # type: ignore[arg-type]
    store = open_store(tmp_path / "s")
    small, whole = store.features("small", "noise"), store.features("logmel", "noise")
    assert small.index["utterance_id"].tolist() == whole.index["utterance_id"].tolist()
    assert small.index["utterance_id"][0] == "clip015"
    assert np.isnan(small.layer(0).numpy()[0]).all()
    np.testing.assert_allclose(small.layer(0).numpy()[1:], whole.layer(0).numpy()[1:], rtol=1e-5)


def test_other_errors_of_a_model_are_not_taken_for_a_lack_of_memory(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path / "site", monkeypatch, broken=f"{LAB}:Broken")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        extract(ExtractConfig(**options(clips([6000]), tmp_path / "s", model="broken")))  # type: ignore[arg-type]


def test_a_halved_budget_cuts_smaller_groups() -> None:
    budget = Budget(40)
    assert budget.first([10] * 8) == 4
    budget.halve([10] * 4)
    assert budget.first([10] * 8) == 2
    assert Budget(40, fixed_samples=100).n_samples == 400


def test_a_model_that_is_refused_costs_no_key_of_another(clips: Clips, tmp_path: Path) -> None:
    store = tmp_path / "s"
    extract_all(configs_of(["logmel", "mfcc"], [], **options(clips([6000] * 4), store)))
    before = embeddings(store)
    manifest = clips([6000] * 6)
    first = ExtractConfig(**options(manifest, store, model="logmel"))  # type: ignore[arg-type]
    second = ExtractConfig(**options(manifest, store, model="mfcc", normalisation="peak"))  # type: ignore[arg-type]
    with pytest.raises(FingerprintMismatch, match="key mfcc/noise was made with other settings"):
        extract_all([first, second])
    assert embeddings(store) == before
    broken = save_ssl(tmp_path / "broken", "hubert", "base")
    (broken / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="cannot be loaded"):
        extract_all(configs_of(["logmel", str(broken)], [], **options(manifest, store, overwrite=True)))
    assert embeddings(store) == before


def test_overwriting_in_shares_is_refused(clips: Clips, tmp_path: Path) -> None:
    given = options(clips([6000] * 2), tmp_path / "s", model="logmel", overwrite=True)
    with pytest.raises(ConfigError, match="--overwrite with share 1/2"):
        extract(ExtractConfig(**given, share="1/2"))  # type: ignore[arg-type]


def test_utterances_that_lie_elsewhere_for_another_key_are_read_there(clips: Clips, tmp_path: Path) -> None:
    manifest, store = clips([6000] * 4), tmp_path / "s"
    extract_all(configs_of(["logmel", "mfcc"], [], **options(manifest, store)))
    from extractors.run.audio_changes import check_key
    from extractors.run.extraction import open_job
    from extractors.run.pipeline import _same_rows
    from extractors.run.plan import plan_run
    from featurestore.store.sound_identity import Sounds

    plan = plan_run(configs_of(["logmel", "mfcc"], [], **options(manifest, store)))
    one, other = (open_job(key, plan, check_key(key, plan, Sounds()))[0] for key in plan.keys)
    assert _same_rows([one, other]) == [[one, other]]
    path, *place = other.where["clip002"]
    other.where["clip002"] = (f"{path}.moved", *place)  # type: ignore[assignment]
    assert _same_rows([one, other]) == [[one], [other]]
