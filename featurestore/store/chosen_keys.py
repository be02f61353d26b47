"""Keys of a store that are asked for by the names of models and data sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from featurestore.backends.storage import Storage
from featurestore.store.key import KeyInfo, find_keys

Name = tuple[str, str]  # model, dataset


@dataclass(frozen=True, kw_only=True)
class ChosenKeys:
    """Keys of a store that are asked for.

    Attributes:
        held: Names of all keys of the store that can be read, sorted.
        known: With those that cannot.
        infos: Attributes of those asked for, sorted by name.
        unreadable: Name → why it cannot be read, of those asked for that cannot.
    """

    held: tuple[Name, ...]
    known: tuple[Name, ...]
    infos: tuple[KeyInfo, ...]
    unreadable: dict[Name, str]

    @property
    def names(self) -> list[Name]:
        """Names of those asked for that can be read."""
        return [(k.model, k.dataset) for k in self.infos]

    @property
    def left_out(self) -> list[str]:
        """A sentence for each that cannot be read."""
        return [f"left out: {why}" for why in self.unreadable.values()]


def chosen_keys(
    storage: Storage, models: Collection[str] | None = None, datasets: Collection[str] | None = None
) -> ChosenKeys:
    """The keys of these models and data sets; None: of all. That none fits is for the caller to say."""
    infos, unreadable = find_keys(storage)
    held = [(k.model, k.dataset) for k in infos]
    known = sorted({*held, *unreadable})
    fitting = set(matching(known, models, datasets))
    return ChosenKeys(
        held=tuple(held),
        known=tuple(known),
        infos=tuple(k for name, k in zip(held, infos, strict=True) if name in fitting),
        unreadable={name: why for name, why in unreadable.items() if name in fitting},
    )


def matching(
    names: Iterable[Name], models: Collection[str] | None, datasets: Collection[str] | None
) -> list[Name]:
    """Those of `names` that are of these models and data sets; None: of all."""
    return [
        (m, d) for m, d in names if (models is None or m in models) and (datasets is None or d in datasets)
    ]
