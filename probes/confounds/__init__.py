"""What else explains a label: length, level, pitch, recorder, hour; and how well layers know these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.lazy_names import lazy_names

if TYPE_CHECKING:
    from probes.confounds.comparison import Confounds, check_confounds_folder, run_confounds
    from probes.confounds.config import ConfoundsConfig
    from probes.confounds.explained import sentences

__all__ = ["Confounds", "ConfoundsConfig", "check_confounds_folder", "run_confounds", "sentences"]

__getattr__ = lazy_names(
    __name__,
    {
        "comparison": ("Confounds", "check_confounds_folder", "run_confounds"),
        "config": ("ConfoundsConfig",),
        "explained": ("sentences",),
    },
)
