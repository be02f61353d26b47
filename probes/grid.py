"""Reading a grid file: which settings to try for which classifier."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import ConfigError

if TYPE_CHECKING:
    import yaml


def read_grid(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read a YAML or JSON file such as ``mlp: {learning_rate: [0.001, 0.0003], weight_decay: [0, 0.01]}``.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping of classifiers to settings.
    """
    import yaml

    try:
        # JSON is YAML; a safe loader makes plain values only.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--grid {path}: cannot be read ({reason})") from error
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


@cache
def _loader() -> type[yaml.SafeLoader]:
    """YAML as people write it: 1e-3 is a number (in YAML 1.1 a text), and no key may stand twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{twice!r} stands twice; keep one, values in a list", node.start_mark
                )
            return super().construct_mapping(node, deep=deep)

    number = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader
