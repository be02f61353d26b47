"""How utterances lie in layers: what layers share, how they are shaped, and who is whose neighbour."""

from __future__ import annotations

from probes.geometry.inspection import Inspection, inspect_store
from probes.geometry.inspection_files import write_inspection
from probes.geometry.request import InspectConfig
from probes.geometry.similarity import debiased_cka

__all__ = ["InspectConfig", "Inspection", "debiased_cka", "inspect_store", "write_inspection"]
