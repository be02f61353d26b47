"""Ways to look at the layers asked for: each by itself, or several at once.

* ``each``: one probe per layer; the layer curve.
* ``concat``: the layers' vectors side by side, one probe for all of them.
* ``weighted``: a sum of the layers with weights that are learned with the probe, a softmax over one
  number per layer that begins at equal weights (Peters et al. 2018, ELMo; Yang et al. 2021, SUPERB). Of
  frames: a sum frame by frame, which attention then pools.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurestore.errors import ConfigError

EACH, CONCAT, WEIGHTED = "each", "concat", "weighted"
COMBINATIONS = (EACH, CONCAT, WEIGHTED)


def check_layers(combine: str, layers: Sequence[int], where: str, layers_asked: str | None) -> None:
    """Refuse to combine fewer than two layers.

    Raises:
        ConfigError: names the key.
    """
    if combine != EACH and len(layers) < 2:
        asked = "" if layers_asked is None else f" of --layers {layers_asked}"
        found = f"only layer {layers[0]}" if layers else "none"
        raise ConfigError(
            f"combine {combine}: expected at least two layers, {where} has {found}{asked}; "
            "ask for more layers, or leave this model out"
        )
