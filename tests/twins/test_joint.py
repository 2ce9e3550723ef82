"""The drift of cells nobody perturbed, under effects of either half."""

from dataclasses import replace

import pytest
import torch
from joint_cells import joint_cells, joint_twin

from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellState
from perturbrl.twins import check_twin
from perturbrl.twins.base import relax
from perturbrl.twins.joint import JointTwin
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.response import ResponseTwin

N = 64


def moved(twin: JointTwin, name: str | None, member: int) -> CellState:
    """Where cells settle after two actions of a full dose, or of none."""
    generator = torch.Generator().manual_seed(0)
    state, own = twin.initial_state(N, generator), torch.full((N,), member)
    dose = torch.zeros(N, twin.perturbations.n_perturbations)
    if name is not None:
        dose[:, twin.perturbations.names.index(name)] = 1.0
    for _ in range(2):
        state = twin.next_state(state, dose, twin.draw_noise(N, generator), own)
    return relax(twin, state, own, generator)


def gene1(twin: JointTwin, state: CellState) -> float:
    return float(twin.expression(state)[:, 1].mean())


def test_the_contract_is_kept() -> None:
    check_twin(joint_twin())


def test_either_half_pushes_cells_to_the_fate_that_it_knows_of() -> None:
    twin = joint_twin()
    for member in (0, 1):
        nothing, up, down = (gene1(twin, moved(twin, name, member)) for name in (None, "gene1", "drug"))
        assert down < nothing - 0.4
        assert nothing + 0.4 < up


def test_members_differ_by_where_effects_come_from_and_not_by_their_drift_alone() -> None:
    twin = joint_twin()
    state = twin.start_cells[:N]
    dose = torch.zeros(N, 2)
    dose[:, twin.perturbations.names.index("gene1")] = 1.0
    measured, in_silico = twin._measured_push(state, dose), twin._in_silico_push(state, dose)
    assert torch.allclose(measured[0], twin.response.shift(state[:1], dose[:1, twin.column])[0])
    assert torch.allclose(
        in_silico[0], twin.landscape.pushes[twin.landscape.perturbations.names.index("gene1")]
    )
    assert not torch.allclose(measured, in_silico, atol=0.1)


def test_what_one_half_knows_nothing_of_it_takes_from_the_other() -> None:
    cells, encoder = joint_cells()
    twin = JointTwin(LandscapeTwin(n_members=1), ResponseTwin(), 0.0).fit(
        replace(cells, allowed=("gene1", "gene5")), encoder
    )
    assert dict(zip(twin.perturbations.names, twin.evidence, strict=True)) == {
        "drug": "measured",
        "gene1": "measured",
        "gene5": "association",
    }
    state, names = cells.latent[:4], twin.perturbations.names
    drug, gene5 = (torch.eye(3)[[names.index(name)]].expand(4, -1) for name in ("drug", "gene5"))
    assert torch.allclose(twin._in_silico_push(state, drug), twin._measured_push(state, drug))
    assert torch.allclose(twin._measured_push(state, gene5), twin._in_silico_push(state, gene5))
    assert twin._measured_push(state, gene5).norm() > 0


def test_the_landscape_is_learned_from_control_cells_alone() -> None:
    cells, encoder = joint_cells()
    other = cells.expression.clone()
    other[len(cells.rows_of("control")) :] *= 1.5
    twin = JointTwin(LandscapeTwin(n_members=1), ResponseTwin(), 1.0)
    again = twin.fit(replace(cells, expression=other, latent=encoder.encode(other)), encoder)
    first = joint_twin(1.0, 1)
    for name, value in first.landscape.state_dict().items():
        if "start_cells" not in name:
            assert torch.equal(value, again.landscape.state_dict()[name]), name
    assert not torch.equal(first.response.shifts.shares, again.response.shifts.shares)


def test_a_checkpoint_brings_both_halves_back() -> None:
    twin, other = joint_twin(), JointTwin(LandscapeTwin(n_members=2))
    other.restore(twin.describe())
    other.load_state_dict(twin.state_dict())
    assert other.evidence == twin.evidence
    for member in (0, 1):
        assert torch.equal(moved(other, "gene1", member), moved(twin, "gene1", member))


@pytest.mark.parametrize(
    ("share", "n_members", "said"), [(1.2, 4, "response_share is 1.2"), (0.1, 2, "0.1 of 2 members")]
)
def test_shares_that_cannot_be_are_refused(share: float, n_members: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        JointTwin(LandscapeTwin(n_members=n_members), response_share=share)
