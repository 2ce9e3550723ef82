"""Expected variance reduction is what conditioning by brute force leaves."""

from itertools import combinations

import numpy as np
import pytest

from perturbrl.planning.variance_reduction import (
    after_measuring,
    greedy_by_variance,
    reduction_of_batch,
    variance_reductions,
)


def beliefs(seed: int = 0, n: int = 7, components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(components, n, 4))
    return roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(n), 0.1 + rng.random((components, n))


def conditioned(covariance: np.ndarray, noise: np.ndarray, rows: list[int]) -> np.ndarray:
    """By the joint Gaussian of all truths and the measurements: its Schur complement, inverted as a whole."""
    measuring = np.eye(len(covariance))[rows]
    joint = np.linalg.inv(np.linalg.inv(covariance) + measuring.T @ np.diag(1.0 / noise[rows]) @ measuring)
    return np.asarray(joint)


def test_every_single_reduction_is_that_of_brute_force() -> None:
    covariances, noise = beliefs()
    expected = [
        sum(np.trace(c) - np.trace(conditioned(c, v, [one])) for c, v in zip(covariances, noise, strict=True))
        for one in range(7)
    ]
    assert variance_reductions(covariances, noise) == pytest.approx(expected)


def test_covariances_after_measuring_are_those_of_brute_force() -> None:
    covariances, noise = beliefs(1)
    left = after_measuring(covariances, noise, 3)
    for found, before, of_one in zip(left, covariances, noise, strict=True):
        assert found == pytest.approx(conditioned(before, of_one, [3]))


def test_a_batch_lowers_variance_as_brute_force_says_in_whatever_order() -> None:
    covariances, noise = beliefs(2)
    expected = sum(
        np.trace(c) - np.trace(conditioned(c, v, [1, 4, 6])) for c, v in zip(covariances, noise, strict=True)
    )
    assert reduction_of_batch(covariances, noise, np.array([1, 4, 6])) == pytest.approx(expected)
    assert reduction_of_batch(covariances, noise, np.array([6, 1, 4])) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_gains_add_up_and_are_near_the_best_batch(seed: int) -> None:
    covariances, noise = beliefs(seed)
    found = greedy_by_variance(covariances, noise, 3, np.ones(7))
    worth = reduction_of_batch(covariances, noise, found.candidates)
    every = [reduction_of_batch(covariances, noise, np.array(some)) for some in combinations(range(7), 3)]
    assert found.gains.sum() == pytest.approx(worth)
    assert len(set(found.candidates.tolist())) == 3
    assert worth >= np.mean(every)
    assert worth >= 0.9 * max(every)


def test_likes_of_one_another_are_not_both_chosen() -> None:
    """Two candidates are the same but for little; the third is less uncertain, and tells something else."""
    root = np.array([[2.0, 0.0], [2.0, 0.01], [0.0, 1.0]])
    covariance, noise = (root @ root.T)[None], np.full((1, 3), 0.01)
    assert set(greedy_by_variance(covariance, noise, 2, np.ones(3)).candidates) in ({0, 2}, {1, 2})
    assert set(np.argsort(-np.diag(covariance[0]))[:2]) == {0, 1}


def test_what_costs_more_than_it_teaches_is_left() -> None:
    covariance, noise = np.diag([2.0, 1.0])[None], np.full((1, 2), 0.1)
    assert greedy_by_variance(covariance, noise, 1, np.array([1.0, 1.0])).candidates.tolist() == [0]
    assert greedy_by_variance(covariance, noise, 1, np.array([5.0, 1.0])).candidates.tolist() == [1]


def test_the_order_of_candidates_does_not_matter() -> None:
    covariances, noise = beliefs(3)
    order = np.random.default_rng(0).permutation(7)
    turned = greedy_by_variance(covariances[:, order][:, :, order], noise[:, order], 4, np.ones(7))
    assert (
        order[turned.candidates].tolist()
        == greedy_by_variance(covariances, noise, 4, np.ones(7)).candidates.tolist()
    )
