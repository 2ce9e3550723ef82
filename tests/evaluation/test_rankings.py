import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from perturbrl.errors import DataError
from perturbrl.evaluation.rankings import placed


def test_the_right_one_is_placed_by_its_score():
    found = placed(np.array([0.1, 0.9, 0.5, -2.0]), right=2)
    assert (found.rank, found.n, found.recall_1, found.recall_5) == (2.0, 4, 0.0, 1.0)
    assert found.normalised_rank == pytest.approx(1 / 3)
    assert found.ndcg == pytest.approx(1 / np.log2(3))


@pytest.mark.parametrize(
    "scores", [[3.0, 1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 4.0, 1.0, 2.0, 3.0]]
)
def test_ndcg_is_that_of_scikit_learn_with_ties_averaged(scores):
    relevance = np.zeros((1, 5))
    relevance[0, 2] = 1
    assert placed(np.array(scores), 2).ndcg == pytest.approx(ndcg_score(relevance, np.array([scores])))


def test_equals_share_their_places_in_any_order():
    scores = np.array([1.0, 0.0, 0.0, 0.0, -1.0])
    for right in (1, 2, 3):
        found = placed(scores, right)
        assert (found.rank, found.normalised_rank, found.recall_1) == (3.0, 0.5, 0.0)


def test_what_is_not_proposed_is_not_found():
    found = placed(np.array([1.0, -np.inf, -np.inf]), right=1)
    assert (found.rank, found.ndcg, found.recall_10) == (2.5, 0.0, 0.0)


@pytest.mark.parametrize(
    ("scores", "right"), [([1.0], 0), ([1.0, 2.0], 2), ([1.0, float("nan")], 0), ([1.0, 2.0], -1)]
)
def test_a_ranking_that_says_nothing_is_refused(scores, right):
    with pytest.raises(DataError, match="says nothing"):
        placed(np.array(scores), right)
