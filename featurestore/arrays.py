"""Types of arrays that many modules name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
TextArray = npt.NDArray[np.object_]
