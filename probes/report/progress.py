"""How far a report is: the stage it is in, how much of that is done, and of how much."""

from __future__ import annotations

from collections.abc import Callable

#: Told of a stage in words, what is done of it, and of how much.
OnProgress = Callable[[str, int, int], None]


class Progress:
    """Tells who wants to know.

    Args:
        on_progress: Called at the beginning of a stage and after each step of it; None: nobody is told.
    """

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self._tell = on_progress

    def stage(self, what: str, total: int) -> Callable[[], None]:
        """Begin a stage of `total` steps; what comes back is called after each."""
        done = 0

        def tell() -> None:
            if self._tell is not None and total:
                self._tell(what, min(done, total), total)

        def step() -> None:
            nonlocal done
            done += 1
            tell()

        tell()
        return step
