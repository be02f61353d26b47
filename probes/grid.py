"""Reading a grid file: which settings to try for which classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featurestore.errors import ConfigError


def read_grid(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read a YAML or JSON file such as ``mlp: {learning_rate: [0.001, 0.0003], weight_decay: [0, 0.01]}``.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping of classifiers to settings.
    """
    import yaml

    try:
        # JSON is YAML; safe_load makes plain values only.
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--grid {path}: cannot be read ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ConfigError(
            f"--grid {path}: expected classifiers with settings, such as mlp: {{learning_rate: [0.001]}}"
        )
    return content
