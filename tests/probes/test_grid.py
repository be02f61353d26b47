from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.errors import ConfigError
from probes.grid import read_grid


@pytest.mark.parametrize(
    "text", ["mlp:\n  learning_rate: [0.001, 0.01]\n", '{"mlp": {"learning_rate": [0.001, 0.01]}}']
)
def test_yaml_and_json_read_the_same(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.yaml").write_text(text)
    assert read_grid(tmp_path / "g.yaml") == {"mlp": {"learning_rate": [0.001, 0.01]}}


@pytest.mark.parametrize("text", ["", "[1, 2]", "mlp: 3", "a: [", "!!python/object/apply:os.system ['true']"])
def test_other_files_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"--grid .*g\.yaml") as error:
        read_grid(tmp_path / "g.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_grid(tmp_path / "none.yaml")
