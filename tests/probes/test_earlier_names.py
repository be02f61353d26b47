"""Pickles of earlier versions name modules that have moved."""

from __future__ import annotations

import pickle

import pytest

from probes import MLPProbe
from probes.training.fused_networks import Shape
from probes.training.mlp import FittedMLP
from probes.training.mlp_config import MLPConfig
from probes.training.standardise import Standardiser


@pytest.mark.parametrize(
    ("module", "cls"),
    [
        ("probes.estimator", MLPProbe),
        ("probes.fused", Shape),
        ("probes.mlp", FittedMLP),
        ("probes.mlp", MLPConfig),
        ("probes.standardise", Standardiser),
    ],
)
def test_classes_of_a_pickled_probe_are_found_by_their_earlier_names(module: str, cls: type) -> None:
    assert pickle.loads(f"c{module}\n{cls.__name__}\n.".encode()) is cls
