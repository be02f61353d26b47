from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.errors import ConfigError
from probes.questions.grid_file import read_grid


@pytest.mark.parametrize(
    "text", ["mlp:\n  learning_rate: [0.001, 0.01]\n", '{"mlp": {"learning_rate": [0.001, 0.01]}}']
)
def test_yaml_and_json_read_the_same(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.yaml").write_text(text)
    assert read_grid(tmp_path / "g.yaml") == {"mlp": {"learning_rate": [0.001, 0.01]}}


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "mlp: 3", "mlp: {3: 4}", "on: {a: 1}", "a: [", "!!python/object/apply:os.system ['true']"],
)
def test_other_files_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"--grid .*g\.yaml") as error:
        read_grid(tmp_path / "g.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_grid(tmp_path / "none.yaml")


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-3 for a text; the results of `fs probe` then said so of a learning rate."""
    (tmp_path / "g.yaml").write_text(
        "mlp: {learning_rate: [1e-3, 3E-4, 1.0e-2, .5e0, -2e+1], hidden: [[64]]}"
    )
    read = read_grid(tmp_path / "g.yaml")
    assert read == {"mlp": {"learning_rate": [1e-3, 3e-4, 1e-2, 0.5, -20.0], "hidden": [[64]]}}


@pytest.mark.parametrize(
    "text", ["mlp: {a: 1, a: 2}", "mlp: {a: 1}\nmlp: {b: 1}", '{"mlp": {"a": 1, "a": 1}}']
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"stands twice; keep one, values in a list"):
        read_grid(tmp_path / "g.yaml")
