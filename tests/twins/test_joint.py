"""The drift of cells nobody perturbed, under effects of either half."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from joint_cells import joint_cells, joint_twin

from perturbrl.data.regulators import Regulators
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


def test_a_knock_out_is_one_in_both_halves() -> None:
    """Cells under ``gene1`` have less of it and go right, which the in-silico half must know of a dose of 1."""
    cells, encoder = joint_cells()
    labels = tuple({"gene1": "drug", "drug": "gene1"}.get(label, label) for label in cells.labels)
    knocked_out = replace(cells, labels=labels, allowed=("gene1", "gene5"))
    twin = JointTwin(LandscapeTwin(n_members=2), ResponseTwin()).fit(knocked_out, encoder)
    names, state = twin.perturbations.names, cells.latent[:1]
    gene1 = torch.eye(len(names))[[names.index("gene1")]]
    pushes = twin._measured_push(state, gene1), twin._in_silico_push(state, gene1)
    assert torch.cosine_similarity(*pushes) > 0.9
    assert twin.senses == (-1,) * len(names)  # and gene5, which nobody measured, is knocked out, too
    gene5 = torch.eye(len(names))[[names.index("gene5")]]
    up = twin.landscape.pushes[twin.landscape.perturbations.names.index("gene5")]
    assert torch.allclose(twin._in_silico_push(state, gene5)[0], -up, atol=1e-5)


def test_where_nothing_tells_what_a_dose_does_to_its_gene_the_user_is_asked() -> None:
    cells, encoder = joint_cells()
    labels = tuple({"gene1": "gene7"}.get(label, label) for label in cells.labels)
    unclear = replace(cells, labels=labels, allowed=("gene7", "drug"))
    twin = JointTwin(LandscapeTwin(n_members=2), ResponseTwin())
    with pytest.raises(ConfigurationError, match=r"a dose of gene7 raises or lowers the gene.*dose_means"):
        twin.fit(unclear, encoder)
    assert twin.fit(replace(unclear, sense=1), encoder).senses == (1, 1)
    told = JointTwin(LandscapeTwin(n_members=2), ResponseTwin(), dose_means="down").fit(unclear, encoder)
    assert told.senses == (-1, -1)


def test_members_that_judge_have_effects_of_either_half_and_no_cell_lives_in_them() -> None:
    twin = JointTwin(LandscapeTwin(n_members=6, judging_members=2))
    assert twin.by_experiment.tolist() == [True, False, True, False, True, False]
    assert set(twin.draw_members(200).tolist()) == {0, 1, 2, 3}
    assert set(twin.in_judging_members().draw_members(50).tolist()) == {4, 5}
    with pytest.raises(ConfigurationError, match="one half has none of the 1 that judge"):
        JointTwin(LandscapeTwin(n_members=5, judging_members=1))


def test_the_table_of_regulators_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, encoder = joint_cells()
    read: list[str] = []

    def table(path: str) -> Regulators:
        read.append(path)
        edges = pd.DataFrame({"factor": "boss", "target": ["gene1", "GENE2"], "weight": 1.0})
        return Regulators("t.csv", edges)

    monkeypatch.setattr("perturbrl.twins.landscape.read_regulators", table)
    own = replace(cells, aliases={"GENE2": "gene2"}, allowed=("gene1", "boss"), sense=1)
    twin = JointTwin(LandscapeTwin("t.csv", n_members=2), ResponseTwin()).fit(own, encoder)
    assert read == ["t.csv"]
    assert dict(zip(twin.perturbations.names, twin.evidence, strict=True))["boss"] == "regulators"


def test_a_priced_design_knows_how_far_halves_and_members_disagree() -> None:
    twin = joint_twin()
    twin.account()
    twin.start_from(twin.place(twin.start_cells))
    check_twin(twin)
    doses = torch.zeros(4, 2), torch.eye(2)[[twin.perturbations.names.index("gene1")]].expand(4, -1)
    told = [
        twin.next_state(twin.start_cells[:4], dose, twin.draw_noise(4), torch.zeros(4).long())[:, -1]
        for dose in doses
    ]
    assert (told[1] > told[0]).all()  # of a dose they disagree beside the drift


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
    twin = joint_twin()
    options = {"n_members": 5, "steps_per_action": 3, "pull": 0.3, "ridge": 0.0, "effect_scale": 9.0}
    other = JointTwin(LandscapeTwin(**options), ResponseTwin(n_members=3), 0.0)
    other.restore(twin.describe())
    other.load_state_dict(twin.state_dict())
    assert (other.evidence, other.senses) == (twin.evidence, twin.senses)
    assert (other.n_members, other.relaxation_steps) == (twin.n_members, twin.relaxation_steps)
    for member in (0, 1):
        assert torch.equal(moved(other, "gene1", member), moved(twin, "gene1", member))


@pytest.mark.parametrize(
    ("share", "n_members", "said"), [(1.2, 4, "response_share is 1.2"), (0.1, 2, "0.1 of 2 members")]
)
def test_shares_that_cannot_be_are_refused(share: float, n_members: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        JointTwin(LandscapeTwin(n_members=n_members), response_share=share)
