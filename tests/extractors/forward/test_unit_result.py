"""Values of a unit while its batches come in."""

from __future__ import annotations

import numpy as np

from extractors.forward.unit_result import UnitResult
from featurestore.format.layer_arrays import LayerShape
from featurestore.format.row_arrays import STATUS_OK
from featurestore.store.key import KeyInfo
from featurestore.store.plan import Unit


def result(n_rows: int, failed: dict[str, str], room: dict[int, np.ndarray] | None = None) -> UnitResult:
    shape = LayerShape(n_functionals=1, n_features=3, unit_rows=4)
    info = KeyInfo(
        model="m",
        dataset="d",
        fingerprint={},
        functionals=("mean",),
        layers=(2, 5),
        shape=shape,
        segments=(),
        versions={},
        model_card={},
    )
    unit = Unit(index=0, first_row=0, n_rows=n_rows)
    return UnitResult(unit, [f"u{i}" for i in range(n_rows)], [2, 5], info, failed, room)


def test_no_value_of_the_unit_before_is_left() -> None:
    before = result(4, {})
    for values in before.values.values():
        values[:] = 7.0
    kept = dict(before.values)
    failed: dict[str, str] = {}
    after = result(4, failed, before.values)
    assert all(after.values[k] is kept[k] for k in (2, 5))  # the same memory
    after.status[0] = after.status[1] = STATUS_OK
    for k in (2, 5):
        after.values[k][0] = 1.0
    after.values[2][1] = 1.0  # and layer 5 of this row never comes
    after.close()
    assert failed == {"u1": "the model's output is not finite at layer 5"}
    for values in after.values.values():
        np.testing.assert_array_equal(values[0], 1.0)
        assert np.isnan(values[1:]).all()
    assert result(3, {}, before.values).values[2].shape == (3, 1, 3)  # a last unit is shorter


def test_rows_are_refused_for_values_that_are_not_finite_and_not_for_large_ones() -> None:
    failed: dict[str, str] = {}
    unit = result(4, failed)
    most = np.finfo(np.float32).max
    rows = [[most, most, most], [np.inf, -np.inf, 0], [np.nan, 0, 0], [most, -most, -most]]
    for values in unit.values.values():
        values[:, 0] = rows
    unit.status[:] = [STATUS_OK] * 4
    unit.close()
    assert sorted(failed) == ["u1", "u2"]
    np.testing.assert_array_equal(unit.values[5][[0, 3], 0], [rows[0], rows[3]])
