"""FLAC files that go on from where a read has ended."""

from __future__ import annotations

from typing import Any

import soundfile


class ForwardFlac(soundfile.SoundFile):  # type: ignore[misc]  # soundfile is not typed here
    """A `soundfile.SoundFile` without the jump that ends every read of one, to where the read has ended.

    libFLAC looks for the place of a jump in the file, by halves, and decodes the block that it finds: half as
    much work as a short clip is. Samples are whole numbers in blocks that need no others, so both ways give
    the same.
    """

    _reads = False

    def seekable(self) -> bool:
        """Whether `seek` works; while it reads this says no, which keeps soundfile from jumping."""
        return not self._reads and bool(super().seekable())

    def read(self, frames: int = -1, *given: Any, **options: Any) -> Any:
        """As of a `soundfile.SoundFile`."""
        if frames < 0:
            return super().read(frames, *given, **options)
        # What soundfile does for a file that can be sought in.
        frames = min(frames, self.frames - self.tell())
        self._reads = True
        try:
            return super().read(frames, *given, **options)
        finally:
            self._reads = False
