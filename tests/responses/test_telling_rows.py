"""Which rows weigh similarities."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.covariances import Covariances
from perturbrl.responses.telling_rows import GROUP, telling_rows
from perturbrl.responses.weight_averaging import FEW_ROWS, WeightNet

N_MODULES = 150
NAMES = tuple(f"p{i:04d}" for i in range(10 * N_MODULES))
MODULE = np.random.default_rng(0).permutation(np.repeat(np.arange(N_MODULES), 10))
ROWS = [(Label.parse(name), "") for name in NAMES]


@pytest.fixture(scope="module")
def modules():
    members = csr_matrix((np.ones(len(NAMES)), (np.arange(len(NAMES)), MODULE)))
    return Covariances((PriorKnowledge("modules", NAMES, members),), {"": np.zeros(2)}, {}, False)


def test_few_rows_all_tell(modules):
    assert telling_rows(modules, WeightNet.even(3, 1), ROWS[:FEW_ROWS]).tolist() == list(range(FEW_ROWS))


def test_of_many_rows_those_tell_that_have_something_in_common(modules):
    found = telling_rows(modules, WeightNet.even(3, 1), ROWS)
    assert len(set(found.tolist())) == len(found)
    assert 0.9 * FEW_ROWS < len(found) <= FEW_ROWS
    together = np.bincount(MODULE[found], minlength=N_MODULES)
    assert (together[MODULE[found]] >= GROUP).mean() > 0.95


def test_combinations_are_told_with_their_parts():
    pairs = [(Label.parse(f"p{i:04d}+p{i + 1:04d}"), "") for i in range(0, 300, 2)]
    rows = sorted([*ROWS[:300], *pairs])
    covariances = Covariances((), {"": np.zeros(2)}, {}, True)
    found = telling_rows(covariances, WeightNet.even(3, 1), rows)
    labels = {str(rows[i][0]) for i in found}
    doubles = [label for label in labels if "+" in label]
    assert len(doubles) > 20
    assert np.mean([set(label.split("+")) & labels != set() for label in doubles]) > 0.5
