"""The landscape twin on simulated cells whose landscape is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from branching_cells import GENES, branching_cells, encoder_of
from joint_cells import joint_cells
from scipy.sparse import csr_matrix
from torch import Generator

from perturbrl.data.cell_order import CellOrder
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.twins import check_twin
from perturbrl.twins.base import relax
from perturbrl.twins.landscape import LandscapeTwin


def of_type(cells, name):
    return cells.latent[torch.tensor([own == name for own in cells.contexts])]


def fitted(cells, **options):
    twin = LandscapeTwin(**({"n_members": 1} | options)).fit(cells, encoder_of(cells))
    twin.start_from(of_type(cells, "progenitor"))
    return twin


@pytest.fixture(scope="module", params=("pseudotime", "time"))
def cells(request):
    return branching_cells(kind=request.param)


@pytest.fixture(scope="module")
def twin(cells):
    return fitted(cells, n_members=2)


def shares(twin, state, seed=0):
    """Types that cells are of once they have settled."""
    generator = Generator().manual_seed(seed)
    settled = relax(twin, state, twin.draw_members(len(state), generator), generator)
    found = twin.probabilities(settled).argmax(1)
    return {name: float((found == i).float().mean()) for i, name in enumerate(twin.cell_types)}


def test_the_contract_is_kept(twin):
    check_twin(twin)


def test_mature_types_are_attractors_and_keep_their_cells(cells, twin):
    assert set(twin.attractors()) == {"left", "right"}
    for name in ("left", "right"):
        own = of_type(cells, name)
        middle = own.mean(0)
        assert (twin.attractors()[name][0] - middle).norm() < (own - middle).norm(dim=1).max()
        assert shares(twin, own)[name] > 0.9


def test_progenitors_leave_for_both_sides(cells, twin):
    found = shares(twin, of_type(cells, "progenitor").repeat(5, 1))
    assert found["progenitor"] < 0.3
    assert min(found["left"], found["right"]) > 0.1


def test_rested_cells_are_spread_as_real_ones(cells):
    twin = fitted(cells)
    own = of_type(cells, "left")
    late = own[torch.randint(len(own), (2000,), generator=Generator().manual_seed(1))]
    generator = Generator().manual_seed(2)
    member = torch.zeros(len(late), dtype=torch.long)
    for _ in range(5):
        late = relax(twin, late, member, generator)
    noise = late[:, 2].std() / own[:, 2].std()  # the third component is noise of counting and nothing else
    assert 0.8 < float(noise) < 1.25


def test_a_reversed_order_reverses_the_flow():
    ahead, back = (branching_cells(reverse=reverse) for reverse in (False, True))
    options = {"progenitors": ["progenitor", "left", "right"][:1]}
    forward, backward = (fitted(cells, **options) for cells in (ahead, back))
    stem = of_type(ahead, "progenitor")
    way = of_type(ahead, "left").mean(0) + of_type(ahead, "right").mean(0) - 2 * stem.mean(0)
    flow = [(twin.drift.drift(stem) @ way).mean() for twin in (forward, backward)]
    assert flow[0] > 0
    assert flow[1] < 0.2 * flow[0]


def test_a_factor_pushes_cells_to_its_side(cells, twin):
    """gene1 is high on the left."""
    start = of_type(cells, "progenitor").repeat(5, 1)
    ends = {}
    for level in (-1.0, 1.0):
        dose = torch.zeros(len(start), twin.perturbations.n_perturbations)
        dose[:, twin.perturbations.names.index("gene1")] = level
        generator = Generator().manual_seed(0)
        state, member = start, twin.draw_members(len(start), generator)
        for _ in range(2):
            state = twin.next_state(state, dose, twin.draw_noise(len(start), generator), member)
        ends[level] = shares(twin, state)["left"]
    assert ends[1.0] > ends[-1.0] + 0.3


def test_on_a_screen_what_prior_knowledge_likens_to_a_measured_perturbation_is_told_by_kriging():
    cells, encoder = joint_cells()
    alike = PriorKnowledge("alike", ("gene1", "gene5"), csr_matrix(np.ones((2, 1))))
    cells = replace(cells, priors=(alike,), allowed=("gene1", "gene5", "gene6"))
    twin = LandscapeTwin(n_members=1).fit(cells, encoder)
    assert twin.evidence == ("measured", "response", "association")
    assert torch.cosine_similarity(twin.pushes[0], twin.pushes[1], dim=0) > 0.9


def test_it_comes_back_from_a_checkpoint(twin):
    options = {
        "n_members": 6,
        "judging_members": 3,
        "steps_per_action": 3,
        "pull": 0.5,
        "sharpness": 2.0,
        "ridge": 0.0,
    }
    again = LandscapeTwin(**options, effect_scale=4.0, n_steps=9)
    again.restore(twin.describe())
    again.load_state_dict(twin.state_dict())
    generator = Generator().manual_seed(0)
    state, noise = twin.initial_state(20, generator), twin.draw_noise(20, generator)
    member, dose = twin.draw_members(20, generator), torch.ones(20, twin.perturbations.n_perturbations)
    assert torch.equal(
        twin.next_state(state, dose, noise, member), again.next_state(state, dose, noise, member)
    )
    assert list(again.attractors()) == list(twin.attractors())
    assert (again.relaxation_steps, again.lived_in) == (twin.relaxation_steps, twin.lived_in)
    assert again.senses == twin.senses
    assert again.evidence == twin.evidence
    assert again.cell_types == twin.cell_types


def test_a_member_that_there_is_not_is_refused(twin):
    state, dose = twin.start_cells[:4], torch.zeros(4, twin.perturbations.n_perturbations)
    with pytest.raises(ConfigurationError, match="members 0 to 5 of a landscape that has 2"):
        twin.next_state(state, dose, twin.draw_noise(4), torch.tensor([0, 5, 0, 0]))


def test_states_keep_account_of_how_far_members_disagree(cells):
    twin = fitted(cells, n_members=4, judging_members=1)
    assert twin.uncertainty(twin.start_cells[:3]) is None
    twin.account()
    twin.start_from(of_type(cells, "progenitor"))
    check_twin(twin)
    generator = Generator().manual_seed(0)
    state, dose = twin.start_cells[:5], torch.zeros(5, twin.perturbations.n_perturbations)
    noise, member = twin.draw_noise(5, generator), torch.zeros(5, dtype=torch.long)
    ends = [
        twin.drift.advance(twin.place(state), 0 * twin.place(state), 0 * noise, member + m) for m in range(3)
    ]
    expected = torch.stack(ends).std(0).norm(dim=1)  # of the members that cells live in, without noise
    following = twin.next_state(state, dose, noise, member)
    torch.testing.assert_close(twin.uncertainty(following), expected)
    again = twin.next_state(following, dose, noise, member)
    assert (twin.uncertainty(again) > twin.uncertainty(following)).all()
    assert torch.equal(
        twin.place(again),
        fitted(cells, n_members=4, judging_members=1).next_state(twin.place(following), dose, noise, member),
    )
    assert fitted(cells, n_members=1).lived_in == range(1)


def test_a_place_far_from_all_cells_is_where_members_disagree_more(cells):
    twin = fitted(cells, n_members=4)
    twin.account()
    near = twin.untouched(of_type(cells, "left")[:40])
    far = near.clone()
    far[:, : twin.place_dim] *= 3
    dose, member = torch.zeros(40, twin.perturbations.n_perturbations), torch.zeros(40, dtype=torch.long)
    told = [
        twin.uncertainty(twin.next_state(state, dose, twin.draw_noise(40), member)).mean()
        for state in (near, far)
    ]
    assert told[1] > told[0]


def test_equal_seeds_fit_equal_landscapes(cells):
    first, again, other = (fitted(cells, n_members=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.drift.means, again.drift.means)
    assert not torch.equal(first.drift.means, other.drift.means)


def test_cells_without_types_have_resting_places(cells):
    twin = LandscapeTwin(n_members=1).fit(replace(cells, contexts=None), encoder_of(cells))
    twin.start_from(cells.latent)
    check_twin(twin)
    places = torch.cat(list(twin.attractors().values()))
    assert all(name.startswith("state ") for name in twin.attractors())
    for name in ("left", "right"):
        own = of_type(cells, name)
        assert torch.cdist(places, own.mean(0)[None]).min() < (own - own.mean(0)).norm(dim=1).max()


def test_what_cannot_be_learned_is_said(cells):
    with pytest.raises(DataError, match="nothing orders the cells"):
        fitted(replace(cells, order=None))
    with pytest.raises(ConfigurationError, match=r"progenitors \['stem'\] are no cell types"):
        fitted(cells, progenitors=["stem"])
    with pytest.raises(DataError, match="cells would pass through all 3 cell types"):
        fitted(cells, progenitors=["progenitor", "left", "right"])
    with pytest.raises(ConfigurationError, match="the landscape's pull is 2; give a share"):
        LandscapeTwin(pull=2)


def test_cells_of_an_unfinished_response_go_on():
    rng = np.random.default_rng(0)
    done = np.concatenate((np.zeros(400), 1 - 0.2 * rng.exponential(size=400)))
    expression = rng.normal(0, 0.3, (800, 12))
    expression[:, 0] += 5 * done
    values = torch.from_numpy(expression).float()
    encoder = PCAEncoder(3).fit(values)
    times = torch.arange(2.0).repeat_interleave(400)
    cells = EncodedCells(
        encoder.encode(values), values, ("control",) * 800, GENES, None, order=CellOrder(times, "time")
    )
    twin = LandscapeTwin(n_members=1).fit(cells, encoder)
    twin.start_from(cells.latent)
    later = cells.latent[times == 1]
    way = later.mean(0) - cells.latent[times == 0].mean(0)
    generator = Generator().manual_seed(0)
    rested = relax(twin, later, torch.zeros(400, dtype=torch.long), generator)
    went = (
        (rested.mean(0) - later.mean(0)) @ way / way.square().sum()
    )  # of 0.8 seen and 0.2 ahead, a quarter is
    assert 0.15 < float(went) < 0.35
