"""Ways to look at the layers asked for: each by itself, or several at once.

* ``each``: one probe per layer; the layer curve.
* ``concat``: the layers' vectors side by side, one probe for all of them.
* ``weighted``: a sum of the layers with weights that are learned with the probe, a softmax over one
  number per layer that begins at equal weights (Peters et al. 2018, ELMo; Yang et al. 2021, SUPERB).
"""

from __future__ import annotations

from collections.abc import Sequence

from featurestore.errors import ConfigError, did_you_mean

EACH, CONCAT, WEIGHTED = "each", "concat", "weighted"
COMBINATIONS = (EACH, CONCAT, WEIGHTED)


def check_combinations(combine: Sequence[str], classifiers: Sequence[str]) -> None:
    """Refuse a combination that is unknown, or that a classifier cannot look at.

    Raises:
        ConfigError: one line that says which.
    """
    from probes.classifiers.registry import FRAMES, get_classifier, inputs_of, learns_weights

    if not combine:
        raise ConfigError(f"combine: expected at least one of {', '.join(COMBINATIONS)}")
    for name in combine:
        if name not in COMBINATIONS:
            hint = did_you_mean(name, COMBINATIONS)
            raise ConfigError(f"combine: expected {', '.join(COMBINATIONS)}, got {name!r}{hint}")
    for classifier in classifiers:
        found = get_classifier(classifier)
        for name in combine:
            if name != EACH and inputs_of(found) == FRAMES:
                raise ConfigError(
                    f"combine {name}: classifier {classifier} looks at the frames of one layer; leave out "
                    f"--combine {name}, or ask for {classifier} in a command of its own"
                )
            if name == WEIGHTED and not learns_weights(found):
                raise ConfigError(
                    f"combine {name}: classifier {classifier} cannot learn weights of layers, mlp and linear "
                    f"can; ask for {classifier} in a command of its own"
                )


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
