"""Keys of a store that a call asks for, by models and by data sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable

Key = tuple[str, str]


def chosen_keys(
    held: Iterable[Key], models: Collection[str] | None = None, datasets: Collection[str] | None = None
) -> list[Key]:
    """Those of the *(model, dataset)* pairs held that have one of the models and one of the data sets.

    Args:
        held: in the order in which they come back.
        models: None for all.
        datasets: None for all.
    """
    return [
        (m, d) for m, d in held if (models is None or m in models) and (datasets is None or d in datasets)
    ]


def first_absent(
    held: Iterable[Key], models: Collection[str] | None, datasets: Collection[str] | None
) -> tuple[str, str, list[str]] | None:
    """The first name asked for that no key held has: what it names, it, and all names that there are."""
    for what, at, asked in (("model", 0, models), ("dataset", 1, datasets)):
        there = {key[at] for key in held}
        for name in asked or ():
            if name not in there:
                return what, name, sorted(there)
    return None
