"""Reading a grid file: which settings to try for which classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featurestore.errors import ConfigError
from featurestore.untrusted.documents import DocumentError, read_yaml_document


def read_grid(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read a YAML or JSON file such as ``mlp: {learning_rate: [0.001, 0.0003], weight_decay: [0, 0.01]}``.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping of classifiers to settings.
    """
    try:
        content = read_yaml_document(path)  # JSON is YAML
    except DocumentError as error:
        raise ConfigError(f"--grid {path}: cannot be read ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ConfigError(
            f"--grid {path}: expected classifiers with settings, such as mlp: {{learning_rate: [0.001]}}"
        )
    for name in (*content, *(setting for of in content.values() for setting in of)):
        if not isinstance(name, str):
            raise ConfigError(
                f"--grid {path}: expected names of classifiers and settings, got {name!r}; quote it"
            )
    return content
