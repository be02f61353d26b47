"""What `fs confounds` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import ConfigError
from probes.questions.tasks import ProbeConfig


@dataclass(frozen=True, kw_only=True)
class ConfoundsConfig:
    """A call of `run_confounds`; what it shares with `fs probe` means the same, see `ProbeConfig`.

    Attributes:
        store: Path or URL of the feature store.
        labels: Label columns.
        out: Folder of the tables.
        models: Models of the store; all when empty.
        datasets: Data sets of the store; all when empty.
        layers: Layers such as "0-6,12"; all when None.
        split: Name of a splitter; None as `fs probe`.
        groups: Columns whose values are held out together.
        split_seed: Seed of the split.
        results: Folder of `fs probe`, whose best probe of the same question is compared; None: none is.
        workers: Threads that decode and fit; None for one per core, at most 8.
    """

    store: str
    labels: tuple[str, ...]
    out: Path
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    layers: str | None = None
    split: str | None = None
    groups: tuple[str, ...] = ()
    split_seed: int = 0
    results: Path | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")
        assert self.asked  # checks the rest

    @property
    def asked(self) -> ProbeConfig:
        """The probes whose rows and splits these are."""
        names = ("store", "labels", "out", "models", "datasets", "layers", "split", "groups", "split_seed")
        return ProbeConfig(**{name: getattr(self, name) for name in names})
