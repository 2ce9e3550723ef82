"""Mature types and progenitors, and steps that heed them."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.twins.couplings import Couplings
from perturbrl.twins.lineages import find_lineages, lineage_steps


def couplings(later):
    later = sp.csr_array(np.array(later, dtype=float))
    moving = torch.from_numpy(later.sum(axis=1) > 0)
    return Couplings(later, moving.float())


def staying(n):
    return couplings(np.eye(n, k=1))


@pytest.mark.parametrize(
    "name",
    ["GMP", "Multipotent progenitors", "HSC", "undiff", "Ngn3 high EP", "Neural stem", "HSPCs", "pre-B"],
)
def test_names_of_progenitors_are_recognised(name):
    lineages = find_lineages([name, name, "Monocytes"], np.arange(3.0), couplings(np.zeros((3, 3))), None)
    assert dict(zip(lineages.names, lineages.mature, strict=True)) == {name: False, "Monocytes": True}


@pytest.mark.parametrize(
    "name", ["Monocytes", "Erythrocyte", "Alpha", "Basophils", "Astrocyte", "Stromal", "Neu_Mon"]
)
def test_other_names_are_mature_types(name):
    assert find_lineages([name] * 3, np.arange(3.0), couplings(np.zeros((3, 3))), None).mature.all()


def test_a_type_whose_latest_cells_go_elsewhere_is_passed_through():
    types = ["a"] * 4 + ["b"] * 4
    assert find_lineages(types, np.arange(8.0), staying(8), None).mature.tolist() == [False, True]
    stays = np.eye(8, k=1)
    stays[3] = [0, 0, 0, 0.5, 0.5, 0, 0, 0]
    assert find_lineages(types, np.arange(8.0), couplings(stays), None).mature.all()


def test_the_user_has_the_last_word():
    types = ["GMP"] * 4 + ["b"] * 4
    assert find_lineages(types, np.arange(8.0), staying(8), []).mature.all()
    with pytest.raises(ConfigurationError, match=r"progenitors \['c'\] are no cell types"):
        find_lineages(types, np.arange(8.0), staying(8), ["c"])
    with pytest.raises(DataError, match="pass through all 2 cell types"):
        find_lineages(types, np.arange(8.0), staying(8), ["GMP", "b"])


def test_mature_cells_keep_their_type_and_rest_in_its_later_half():
    types = ["a"] * 4 + ["b"] * 4
    later = np.zeros((8, 8))
    later[0] = [0, 0.5, 0, 0, 0.5, 0, 0, 0]
    later[2, 4] = later[4, 5] = later[6, 7] = 1
    lineages = find_lineages(types, np.arange(8.0), couplings(later), [])
    steps = lineage_steps(couplings(later), lineages, np.arange(8.0))
    assert steps.later.toarray()[0, 1] == 1
    assert steps.resting.tolist() == [0, 1, 1, 1, 0, 1, 1, 1]
    assert steps.later.toarray()[4, 5] == 1


def test_fates_of_progenitors_are_in_proportion_to_mature_cells():
    """Neighbours lead to the rare type only, but for one in ten."""
    types = ["stem"] * 2 + ["rare"] * 2 + ["common"] * 6
    later = np.zeros((10, 10))
    later[0] = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    later[1] = [0, 0, 0.9, 0, 0.1, 0, 0, 0, 0, 0]
    order = np.arange(10.0)
    steps = lineage_steps(couplings(later), find_lineages(types, order, couplings(later), None), order)
    assert np.allclose(steps.later.toarray()[1, [2, 4]], [0.25, 0.75], atol=1e-3)


def test_what_is_not_reached_is_not_invented():
    types = ["stem"] * 2 + ["rare"] * 2 + ["common"] * 6
    later = np.zeros((10, 10))
    later[0, 1] = later[1, 2] = 1
    order = np.arange(10.0)
    steps = lineage_steps(couplings(later), find_lineages(types, order, couplings(later), None), order)
    assert np.allclose(steps.later.toarray(), later)


def test_without_types_nobody_rests_who_has_later_cells():
    lineages = find_lineages(None, np.arange(8.0), staying(8), None)
    assert lineage_steps(staying(8), lineages, np.arange(8.0)).resting.tolist() == [0.0] * 7 + [1.0]
