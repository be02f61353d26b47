"""What Zarr's views of all roots have in common."""

from __future__ import annotations

from typing import Any, Self


class ReadOnlyView:
    """What Zarr's views of all roots share: they are read-only, and pickled by the root's URL."""

    _storage: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._storage,)

    def with_read_only(self, read_only: bool = False) -> Self:
        """Read-only is all there is.

        Raises:
            ValueError: something else is asked for.
        """
        if not read_only:
            raise ValueError("a store is written through featurestore only")
        view: Any = type(self)
        made: Self = view(self._storage)
        return made
