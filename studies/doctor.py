"""`fs doctor`: what this machine has of what fs needs, and how to get the rest.

Nothing is changed. With a folder of a store, files are written beside it and removed again: how fast is that?
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from featurestore.compute.task_runners import available_cores, decoding_threads
from featurestore.printable import counted, enumerated

DISTRIBUTION = "featurestore-audio"
# What each extra is for; `tests/studies/test_doctor.py` holds them against pyproject.toml.
EXTRAS = {
    "s3": "stores in buckets: S3, Google Cloud Storage, Azure",
    "cluster": "Dask clusters and SLURM",
    "xarray": "stores opened with xarray",
    "annotations": "TIMIT, evsonganaly, BirdsongRecognition and SongAnnotationGUI",
    "catch22": "the model catch22",
    "pcodec": "stores compressed with PCodec",
    "avex": "models of avex",
    "onnx": "networks in ONNX, by a card",
    "tflite": "networks in TFLite, by a card",
    "birdnet": "the model birdnet (weights: CC BY-NC-SA 4.0)",
    "rank": "models ranked over several data sets",
}
SHOWN = ("torch", "transformers", "zarr", "numpy", "scikit-learn", "dask")
SPEED_BYTES = 64 * 2**20
N_SMALL_FILES = 200


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    text: str
    remedy: str = ""  # what to type or change; empty where nothing is to be done
    is_fault: bool = False  # fs does not work, or not as it is meant to


def findings(store: str | None = None) -> Iterator[Finding]:
    """Look at this machine, one finding after another.

    Args:
        store: A folder or URL of a store, there already or yet to be made; also look at its speed.

    Raises:
        StoreError: a remote store cannot be reached.
    """
    yield _machine()
    yield from _packages(metadata.requires(DISTRIBUTION) or [])
    yield _device()
    yield from _extras(metadata.requires(DISTRIBUTION) or [])
    yield _models()
    if store is not None:
        yield _remote(store) if "://" in store else _folder(Path(store))


def _machine() -> Finding:
    import psutil

    memory_gib = psutil.virtual_memory().total / 2**30
    cores, threads = counted(available_cores(), "core"), counted(decoding_threads(), "thread")
    return Finding(
        "machine",
        f"fs {metadata.version(DISTRIBUTION)}, Python {platform.python_version()}, "
        f"{platform.platform(terse=True)}, {memory_gib:.0f} GiB of memory, {cores} for this process; "
        f"audio is decoded in {threads}",
    )


def _packages(required: Sequence[str]) -> Iterator[Finding]:
    """Whether what the package needs is there in a version that it admits."""
    needed = [r for r in map(Requirement, required) if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [misfit for r in needed if (misfit := _misfit(r))]
    for text, remedy in wrong:
        yield Finding("packages", text, remedy, is_fault=True)
    if not wrong:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
        yield Finding("packages", f"all {len(needed)} that are needed are there ({versions}, …)")


def _misfit(requirement: Requirement) -> tuple[str, str] | None:
    """What is wrong with an installed package, and how to mend it."""
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        here = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed", remedy
    if not requirement.specifier.contains(here, prereleases=True):
        return f"{requirement.name} {here} is installed, expected {requirement.specifier}", remedy
    return None


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        built = "this PyTorch has no CUDA" if torch.version.cuda is None else "no CUDA device answers"
        threads = counted(torch.get_num_threads(), "thread")
        return Finding("device", f"models run on the CPU, with {threads} ({built})")
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    named = enumerated(f"{d.name} with {d.total_memory / 2**30:.0f} GiB" for d in devices)
    return Finding("device", f"{named} (CUDA {torch.version.cuda})")


def _extras(required: Sequence[str]) -> Iterator[Finding]:
    """What each extra is for, where it is not there."""
    parsed = [Requirement(text) for text in required]
    there = []
    for extra, purpose in EXTRAS.items():
        parts = [
            r
            for r in parsed
            if r.marker is not None
            and r.marker.evaluate({"extra": extra})
            and not r.marker.evaluate({"extra": ""})
        ]
        missing = [r.name for r in parts if _misfit(r)]
        if missing:
            yield Finding(
                f"extra {extra}",
                f"not there ({enumerated(missing)}): {purpose}",
                f"pip install '{DISTRIBUTION}[{extra}]'",
            )
        else:
            there.append(extra)
    if there:
        yield Finding("extras", f"there: {', '.join(there)}")


def _models() -> Finding:
    """Which models the hub's cache of this machine holds."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        kept = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return Finding(
            "models", f"none in the hub's cache ({constants.HF_HUB_CACHE}); folders work without it"
        )
    names = sorted(r.repo_id for r in kept.repos if r.repo_type == "model")
    if not names:
        return Finding(
            "models", f"none in the hub's cache ({constants.HF_HUB_CACHE}); folders work without it"
        )
    size_gb = kept.size_on_disk / 1e9
    offline = ", no others are asked for (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    return Finding("models", f"in the hub's cache, {size_gb:.1f} GB: {', '.join(names)}{offline}")


def _folder(store: Path) -> Finding:
    """Room and speed of the file system that a store lies on or would."""
    place = store.absolute()
    while not place.is_dir() or (place / "zarr.json").exists():  # nothing of ours among a store's files
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".fs-doctor-", dir=place) as folder:
            rate = SPEED_BYTES / 1e6 / _seconds_to_write(Path(folder), 1, SPEED_BYTES)
            small_ms = 1e3 * _seconds_to_write(Path(folder), N_SMALL_FILES, 4096) / N_SMALL_FILES
        status = os.statvfs(place)
    except OSError as error:
        return Finding(
            "store", f"{place}: {error.strerror}", "choose a folder that you may write to", is_fault=True
        )
    free_gb = status.f_bavail * status.f_frsize / 1e9
    return Finding(
        "store",
        f"{place}: {free_gb:.0f} GB free, {rate:.0f} MB/s written, {small_ms:.1f} ms for a small file "
        "(each forced to the disk)",
    )


def _seconds_to_write(folder: Path, n_files: int, n_bytes: int) -> float:
    data = os.urandom(n_bytes)
    start_s = time.perf_counter()
    for number in range(n_files):
        with open(folder / f"{n_bytes}-{number}", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - start_s


def _remote(url: str) -> Finding:
    from featurestore.backends.remote import open_remote

    start_s = time.perf_counter()
    storage = open_remote(url)
    storage.check()
    names = storage.children("")
    waited_ms = 1e3 * (time.perf_counter() - start_s)
    return Finding("store", f"{url}: answers in {waited_ms:.0f} ms, {counted(len(names), 'model')} in it")
