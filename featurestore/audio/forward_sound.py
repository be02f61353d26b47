"""Files that go on from where a read has ended."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import soundfile

# Samples as whole numbers or floats, each by itself: where a read ends decides nothing of the next.
PLAIN_SAMPLES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
)


# What a step of 16 bits is of full scale; a power of two, so that nothing is lost.
_STEP_16 = np.float32(2.0**-15)


class ForwardSound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile is not typed here
    """A `soundfile.SoundFile` of `PLAIN_SAMPLES` without the jump that ends every read of one.

    The jump goes to where the read has ended. libFLAC looks for that place in the file, by halves, and
    decodes the block that it finds: half as much work as a short clip is. FLAC's samples lie in blocks that
    need no others, so both ways give the same. Of other samples a read is as soundfile has it.

    Samples of 16 bits are read as they are and made float32 here: the same numbers, in a third of the time
    that libsndfile takes, which converts them one by one.
    """

    _reads = False
    #: What it was opened from.
    source: Any = None

    @cached_property
    def subtype(self) -> str:
        """As of a `soundfile.SoundFile`, which asks libsndfile every time."""
        return str(super().subtype)

    @cached_property
    def goes_on(self) -> bool:
        """Whether its samples are plain, and reads end without a jump."""
        return self.subtype in PLAIN_SAMPLES and self.format != "OGG"

    def seekable(self) -> bool:
        """Whether `seek` works; while it reads this says no, which keeps soundfile from jumping."""
        return not self._reads and bool(super().seekable())

    def read(self, frames: int = -1, dtype: str = "float64", always_2d: bool = False, **options: Any) -> Any:
        """As of a `soundfile.SoundFile`."""
        if frames < 0 or options or not (always_2d and self.goes_on):
            return super().read(frames, dtype, always_2d, **options)
        is_short = dtype == "float32" and self.subtype == "PCM_16"
        # libsndfile itself ends where the file does.
        block = np.empty((min(frames, self.frames), self.channels), "int16" if is_short else dtype)
        self._reads = True
        try:
            found = block[: self.buffer_read_into(block, block.dtype.name) if len(block) else 0]
        finally:
            self._reads = False
        if not is_short:
            return found
        scaled = found.astype(np.float32)
        scaled *= _STEP_16
        return scaled
