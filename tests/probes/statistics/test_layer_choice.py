"""How firmly a layer is chosen: against resampling rows one by one, and where it is clear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featurestore.errors import ConfigError
from probes import metrics
from probes.statistics import layer_choice


def layers(seed: int, chances: list[float], n_groups: int = 10) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 16)
    target = rng.integers(0, 3, len(group))
    right = rng.random((len(chances), len(group))) < np.array(chances)[:, None]
    return target, np.where(right, target, (target + rng.integers(1, 3, right.shape)) % 3), group


@pytest.mark.parametrize("metric", ["uar", "accuracy", "f1_macro"])
def test_shares_are_those_of_resampled_rows(metric: str) -> None:
    target, guesses, group = layers(2, [0.6, 0.62, 0.61])
    choice = layer_choice(target, list(guesses), group, metric=metric, n_resamples=120, seed=5)
    score = {"uar": metrics.uar, "accuracy": metrics.accuracy, "f1_macro": metrics.f1_macro}[metric]
    times = np.random.default_rng(5).multinomial(10, np.full(10, 0.1), size=120)
    chosen = np.zeros(3)
    for drawn in times:
        rows = np.concatenate([np.tile(np.flatnonzero(group == g), k) for g, k in enumerate(drawn)]).astype(
            int
        )
        chosen[np.argmax(np.round([score(target[rows], guess[rows]) for guess in guesses], 12))] += 1
    np.testing.assert_allclose(choice.chosen_share, chosen / 120, atol=1e-12)
    assert choice.scores == pytest.approx([score(target, guess) for guess in guesses])
    assert (chosen > 0).sum() > 1


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auroc_macro", "map"])
def test_scores_of_ranks_to_first_order(metric: str) -> None:
    target, guesses, group = layers(3, [0.6, 0.64, 0.3], n_groups=20)
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((3, len(target), 3)) + 1.5 * (guesses[..., None] == np.arange(3))
    choice = layer_choice(target, list(scores), group, metric=metric, n_resamples=150, seed=2)
    score = metrics.auroc_macro if metric == "auroc_macro" else metrics.mean_average_precision
    times = np.random.default_rng(2).multinomial(20, np.full(20, 0.05), size=150)
    chosen = np.zeros(3)
    for drawn in times:
        rows = np.concatenate([np.tile(np.flatnonzero(group == g), k) for g, k in enumerate(drawn)]).astype(
            int
        )
        chosen[np.argmax([score(target[rows], s[rows]) for s in scores])] += 1
    np.testing.assert_allclose(choice.chosen_share, chosen / 150, atol=0.06)


def test_a_clear_choice_and_what_cannot_be_told_from_it() -> None:
    target, guesses, group = layers(0, [0.3, 0.9, 0.88, 0.5], n_groups=20)
    choice = layer_choice(target, list(guesses), group, layers=["l0", "l3", "l6", "l9"], n_resamples=2000)
    assert choice.chosen in ("l3", "l6")
    assert choice.chosen_share[[0, 3]].tolist() == [0, 0]
    assert choice.chosen_share.sum() == pytest.approx(1)
    assert set(choice.not_worse) == {"l3", "l6"}
    assert np.isnan(choice.p_holm[choice.layers.index(choice.chosen)])
    assert (choice.n_groups, choice.reason) == (20, "")


def test_seeds_are_averaged_and_the_first_of_equals_is_chosen() -> None:
    target, guesses, group = layers(1, [0.7, 0.7, 0.4, 0.4])
    both = [guesses[[0, 2]], guesses[[1, 3]], guesses[[0, 2]]]
    choice = layer_choice(target, both, group, n_resamples=500)
    mean = [np.mean([metrics.uar(target, g) for g in one]) for one in both]
    assert choice.scores == pytest.approx(mean)
    assert choice.chosen_share[2] == 0  # the same as the first, which comes before it
    assert choice.chosen in (0, 1)
    assert 2 in choice.not_worse or choice.chosen == 1


def test_draws_depend_on_the_seed_alone() -> None:
    target, guesses, group = layers(2, [0.6, 0.62, 0.61])
    shares = [
        layer_choice(target, list(guesses), group, n_resamples=400, seed=s).chosen_share for s in (0, 0, 1)
    ]
    assert shares[0].tolist() == shares[1].tolist() != shares[2].tolist()


def test_few_groups_say_so() -> None:
    target, guesses, group = layers(0, [0.3, 0.9], n_groups=3)
    choice = layer_choice(target, list(guesses), group)
    assert choice.chosen == 1
    assert np.isnan(choice.chosen_share).all()
    assert choice.not_worse == (0, 1)
    assert choice.reason.startswith("3 groups validated; 4 are needed")


def test_one_layer() -> None:
    target, guesses, group = layers(0, [0.5])
    choice = layer_choice(target, list(guesses), group, n_resamples=50)
    assert (choice.chosen, choice.chosen_share.tolist(), choice.not_worse) == (0, [1.0], (0,))


def test_what_cannot_be() -> None:
    target, guesses, group = layers(0, [0.5, 0.6])
    with pytest.raises(ConfigError, match="a name for each of 2 predictions, one at least; got 1"):
        layer_choice(target, list(guesses), group, layers=[0])
    with pytest.raises(ConfigError, match="got 0"):
        layer_choice(target, [], group)
    with pytest.raises(ConfigError, match="n_resamples: expected 1 at least"):
        layer_choice(target, list(guesses), group, n_resamples=0)
    with pytest.raises(ConfigError, match="prediction 1: expected 160 rows"):
        layer_choice(target, [guesses[0], guesses[1][1:]], group)
