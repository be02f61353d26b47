"""What of every model and corpus is in the store, and what is left to embed."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurestore.errors import KeyNotFound, UserError, one_line
from featurestore.layer_list import format_layers
from featurestore.printable import counted
from studies.study_run.scope import Pair

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.run.key_job import KeyJob
    from extractors.run.plan import RunPlan
    from featurestore.backends.storage import Storage
    from featurestore.manifest.table import Manifest
    from featurestore.store.ledger import Record


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast a model has been: seconds of audio in a second, and where."""

    real_time: float
    devices: str


@dataclass(frozen=True, kw_only=True)
class KeyState:
    """A model and a corpus: what there is, and what is left.

    Attributes:
        model, corpus: its name.
        layers: that are asked for.
        n_rows, n_to_do: utterances in all, and those not embedded yet.
        units: to do, by their numbers.
        audio_s: seconds of their audio, as far as it is known.
        n_bytes: of their values in whole units, before compression.
        rate: measured, of this model in this store, see `measured_rate`; None where there is none.
        estimate_s: seconds that are left, by the rate or by a short measurement; None: unknown.
        changes: what the manifest says otherwise than the one in the key, such as other labels; or "".
        problem: why it cannot be gone on with, or "".
    """

    model: str
    corpus: str
    layers: str = ""
    n_rows: int = 0
    n_to_do: int = 0
    units: tuple[int, ...] = ()
    audio_s: float = 0.0
    n_bytes: int = 0
    rate: Rate | None = None
    estimate_s: float | None = None
    changes: str = ""
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to embed."""
        return not self.problem and not self.units and not self.changes


def key_states(
    configs: Mapping[Pair, ExtractConfig], *, measure: bool = False
) -> Iterator[tuple[Pair, KeyState]]:
    """Look at every model and corpus, writing nothing.

    Args:
        configs: the calls of `fs extract`.
        measure: run a few batches of models that no rate is known of.

    Raises:
        UserError: a manifest, a model or a store that cannot be used at all.
    """
    from extractors.run.plan import plan_run
    from featurestore.store.sound_identity import Sounds

    rates: dict[tuple[str, str], Rate | None] = {}
    for group in _planned_together(configs):
        run = plan_run(list(group.values()))
        sounds = Sounds(n_threads=run.config.n_threads)
        for (pair, config), plan in zip(group.items(), run.keys, strict=True):
            of = (pair[0], next(iter(run.devices), ""))
            if of not in rates:
                rates[of] = measured_rate(run.storage, *of)
            yield pair, _state(pair, config, run, plan, sounds, rates[of], measure=measure)


def _planned_together(configs: Mapping[Pair, ExtractConfig]) -> list[dict[Pair, ExtractConfig]]:
    """Calls that one plan can be made of: the manifest is read once for all models."""
    from extractors.run.plan import SHARED

    groups: dict[tuple[Any, ...], dict[Pair, ExtractConfig]] = {}
    for pair, config in configs.items():
        groups.setdefault(tuple(getattr(config, name) for name in SHARED), {})[pair] = config
    return list(groups.values())


def _state(
    pair: Pair,
    config: ExtractConfig,
    run: RunPlan,
    plan: Any,
    sounds: Any,
    rate: Rate | None,
    *,
    measure: bool,
) -> KeyState:
    from extractors.run.dry_run import dry_run, preview_job, value_bytes

    known: dict[str, Any] = {
        "model": pair[0],
        "corpus": pair[1],
        "layers": format_layers(plan.request.layers),
    }
    try:
        job = preview_job(plan, run, sounds)
    except UserError as error:
        return KeyState(**known, n_rows=len(plan.ids), problem=one_line(error, None))
    audio_s, n_to_do = _to_do(job, run)
    estimate_s = None
    if not job.units:
        estimate_s = 0.0
    elif rate is not None:
        estimate_s = audio_s / rate.real_time
    elif measure:
        estimate_s = dry_run([config])[0].seconds
    return KeyState(
        **known,
        n_rows=int((job.writer.ids != "").sum()),
        n_to_do=n_to_do,
        units=tuple(unit.index for unit in job.units),
        audio_s=audio_s,
        n_bytes=value_bytes(job),
        rate=rate,
        estimate_s=estimate_s,
        **_differences(run, pair, config),
    )


def _differences(run: RunPlan, pair: Pair, config: ExtractConfig) -> dict[str, str]:
    """What the manifest says otherwise than the one in the key, and what stands against it."""
    from featurestore.store.key import read_key
    from featurestore.store.stored_manifest import changes, read_stored_manifest

    try:
        info = read_key(run.storage, *pair)
    except KeyNotFound:
        return {}
    stored = read_stored_manifest(run.storage, info)
    said = changes(stored, run.manifest)
    if gone := surplus(stored, run.manifest):
        if not config.prune:
            return {"problem": f"{gone}, and would be probed; add prune: true to extract, or put them back"}
        said.append(gone)
    return {"changes": "; ".join(said)}


def surplus(stored: Manifest, manifest: Manifest) -> str:
    """Which utterances a key has that its manifest no longer has; "" where there is none."""
    gone = set(stored.table["utterance_id"]) - set(manifest.table["utterance_id"])
    if not gone:
        return ""
    n, is_one = counted(len(gone), "utterance"), len(gone) == 1
    return f"{n} of the key {'is' if is_one else 'are'} not in the manifest (such as {min(gone)!r})"


def _to_do(job: KeyJob, run: RunPlan) -> tuple[float, int]:
    """Seconds of audio of the units of a job, as far as known, and how many utterances they hold."""
    import numpy as np

    seconds = dict(zip(run.manifest.table["utterance_id"], run.durations, strict=True))
    ids = [i for unit in job.units for i in job.ids(unit) if i]
    return float(np.nansum([seconds.get(i, np.nan) for i in ids])) if ids else 0.0, len(ids)


def measured_rate(storage: Storage, model: str, device: str) -> Rate | None:
    """What the ledgers of a model's keys say of its speed: whole units, with decoding and writing.

    Units of this machine and kind of device count alone, where there are some; else those of this kind of
    device; else all.

    Args:
        storage: of the store.
        model: its name there.
        device: that it will run on; "" where that is not known.
    """
    from featurestore.store.chosen_keys import chosen_keys
    from featurestore.store.ledger import read_sound_records

    timed: list[Record] = []
    for info in chosen_keys(storage, [model]).infos:
        with suppress(UserError):
            records = read_sound_records(storage, info.path).values()
            timed += [r for r in records if r.elapsed_s > 0 and r.audio_s > 0]
    alike = [r for r in timed if _device(r).split(":")[0] == device.split(":")[0]]
    here = [r for r in alike if r.host == socket.gethostname()]
    taken = here or alike or timed
    if not taken:
        return None
    real_time = sum(r.audio_s for r in taken) / sum(r.elapsed_s for r in taken)
    return Rate(real_time=real_time, devices=", ".join(sorted({_device(r) for r in taken} - {""})))


def _device(record: Record) -> str:
    return str(record.versions.get("device", ""))


def total(states: Sequence[KeyState]) -> KeyState:
    """All keys as one line; its time is unknown where one's is."""
    times = [s.estimate_s for s in states]
    return KeyState(
        model="all",
        corpus="",
        n_rows=sum(s.n_rows for s in states),
        n_to_do=sum(s.n_to_do for s in states),
        units=tuple(unit for s in states for unit in s.units),
        audio_s=sum(s.audio_s for s in states),
        n_bytes=sum(s.n_bytes for s in states),
        estimate_s=None if None in times else sum(t for t in times if t is not None),
    )
