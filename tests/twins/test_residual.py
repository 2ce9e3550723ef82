"""Cells start where kriging expects them, in control cells of their context, and move along what doses name."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from residual_screen import encoded, episodes, fitted_twin

from perturbrl.data.labels import Label
from perturbrl.envs.base import Gains
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses.inner_split import InnerSplit, foretold, measured_conditions
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.training.decision import decide
from perturbrl.twins import check_twin, residual
from perturbrl.twins.residual import SUMMARY_COLUMNS, ResidualTwin

OWN = 5


@pytest.mark.parametrize("directions", ["expected", "components", "dimensions"])
def test_the_contract_is_kept(directions):
    check_twin(fitted_twin(directions=directions))


def by_condition(state, each=16):
    return state.view(-1, each, state.shape[1])


def test_cells_start_as_expected_around_the_control_cells():
    cells, encoder = encoded()
    twin = ResidualTwin(cells_per_condition=16).fit(cells, encoder)
    asked = [(Label.parse("GENE0001"), ""), (Label.parse("GENE0003+GENE0005"), "")]
    state = by_condition(twin.states(twin.foretell(asked), 16))
    shift = torch.as_tensor(twin.response.predict(asked).mean).float() @ encoder.components.T
    control = cells.mean_of("control")
    assert torch.allclose(state[..., :OWN].mean(1), control + shift, atol=1e-4)
    assert torch.allclose(state[:, 0, OWN : 2 * OWN], control + shift, atol=1e-4)
    assert torch.allclose(state[:, 0, 2 * OWN : 3 * OWN], shift, atol=1e-4)
    assert (state[:, :1, OWN:] == state[:, :, OWN:]).all()
    assert state[:, 0, -1].tolist() == [-1, -2]
    assert state.shape[-1] == twin.latent_dim == 4 * OWN + SUMMARY_COLUMNS + 1


def test_the_mean_of_the_start_is_that_of_all_control_cells_not_of_the_chosen():
    cells, encoder = encoded()
    few = ResidualTwin(cells_per_condition=3).fit(cells, encoder)
    state = by_condition(episodes(few).start, 3)
    assert torch.allclose(
        state[..., :OWN].mean(1), state[:, 0, 2 * OWN : 3 * OWN] + cells.mean_of("control"), atol=1e-4
    )


def test_of_many_conditions_two_halves_foretell_each_other(monkeypatch):
    asked = []

    def noted(*arguments, n_folds, seed):
        asked.append(n_folds)
        return foretold(*arguments, n_folds=n_folds, seed=seed)

    monkeypatch.setattr(residual, "foretold", noted)
    cells, encoder = encoded()
    for many in (1000, 2):
        monkeypatch.setattr(residual, "MANY_CONDITIONS", many)
        ResidualTwin(cells_per_condition=16, n_folds=3).fit(cells, encoder)
    assert asked == [3, 2]


def test_goal_cells_are_those_measured_under_the_condition():
    cells, encoder = encoded()
    twin = ResidualTwin(cells_per_condition=16).fit(cells, encoder)
    found = episodes(twin)
    training = TrainingCells(cells.expression, cells.labels, cells.genes)
    learned = InnerSplit.of(measured_conditions(training), twin.deciding_fraction, 0).learned
    means = torch.stack([cells.mean_of(label) for label, _ in learned])
    goal = by_condition(found.goal)[..., :OWN].mean(1)
    assert torch.allclose(goal.sort(0).values, means.sort(0).values, atol=1e-4)
    assert torch.equal(found.goal[:, OWN:], found.start[:, OWN:])
    assert found.start[:, -1].unique().tolist() == list(range(len(learned)))


def test_uncertainty_of_what_was_never_measured_is_larger():
    twin = fitted_twin()
    asked = [(Label.parse(name), "") for name in ("GENE0001", "GENE0030")]
    sd = by_condition(twin.states(twin.foretell(asked), 2), 2)[:, 0, 3 * OWN : 4 * OWN].norm(dim=1)
    assert sd[1] > 1.5 * sd[0]


def test_cells_of_a_perturbation_that_decides_teach_nothing():
    """A leak from the deciding perturbations into what is learned would move something here."""
    cells, encoder = encoded()
    training = TrainingCells(cells.expression, cells.labels, cells.genes)
    twin = ResidualTwin(cells_per_condition=16)
    deciding = {str(label) for label, _ in InnerSplit.of(measured_conditions(training), 0.34, 0).deciding}
    theirs = torch.tensor([label in deciding for label in cells.labels])
    assert theirs.any()
    expression = torch.where(theirs[:, None], cells.expression.flip(1), cells.expression)
    other = replace(cells, expression=expression, latent=encoder.encode(expression))
    found, changed = (
        episodes(twin.fit(cells, encoder)),
        episodes(ResidualTwin(cells_per_condition=16).fit(other, encoder)),
    )
    assert torch.equal(found.start, changed.start)
    assert torch.equal(found.goal, changed.goal)
    assert torch.equal(found.deciding_start, changed.deciding_start)
    assert not torch.equal(found.deciding_goal, changed.deciding_goal)


def test_a_perturbation_that_decides_in_several_contexts_is_one_unit():
    cells, encoder = encoded(n_combinations=0, contexts=("T", "B", "NK"))
    found = episodes(ResidualTwin(cells_per_condition=16).fit(cells, encoder))
    assert len(found.deciding_units) == len(found.deciding_start[:, -1].unique())
    assert len(found.deciding_units) == 3 * len(found.deciding_units.unique())


def test_contexts_of_a_single_perturbation_are_one_unit_each_and_a_held_out_one_is_none_of_them():
    kinds = tuple(f"kind{i}" for i in range(11))
    cells, encoder = encoded(n_perturbations=1, n_combinations=0, contexts=kinds)
    kept = np.array(
        [
            label == "control" or kind != "kind4"
            for label, kind in zip(cells.labels, cells.contexts, strict=True)
        ]
    )
    rows = np.flatnonzero(kept).tolist()
    labels, contexts = (tuple(column[row] for row in rows) for column in (cells.labels, cells.contexts))
    training = replace(
        cells, latent=cells.latent[rows], expression=cells.expression[rows], labels=labels, contexts=contexts
    )
    twin = ResidualTwin(cells_per_condition=16, deciding_fraction=0.5).fit(training, encoder)
    found = episodes(twin)
    assert "kind4" in twin.contexts
    assert sorted(found.deciding_units.tolist()) == list(range(5))
    assert len(found.deciding_units) == len(found.deciding_start[:, -1].unique()) == 5
    sure = Gains(torch.full((5, 2), 0.2) + 0.01 * torch.arange(5)[:, None], torch.tensor([0.5, 0.5]))
    assert decide(sure, found.deciding_units).n_units == 5


def test_contexts_have_control_cells_of_their_own():
    cells, encoder = encoded(contexts=("T", "B", "NK"))
    twin = ResidualTwin(cells_per_condition=16).fit(cells, encoder)
    middles = {}
    for context in ("T", "B", "NK"):
        rows = [
            i
            for i, pair in enumerate(zip(cells.labels, cells.contexts, strict=True))
            if pair == ("control", context)
        ]
        middles[context] = cells.latent[rows].mean(0)
    state = by_condition(twin.states(twin.foretell([(Label.parse("GENE0000"), c) for c in middles]), 16))
    found = state[:, 0, OWN : 2 * OWN] - state[:, 0, 2 * OWN : 3 * OWN]
    assert torch.allclose(found, torch.stack(list(middles.values())), atol=1e-4)


def test_doses_move_along_the_expected_shift_and_away_from_the_middle():
    twin = fitted_twin(reach=0.5)
    state = by_condition(episodes(twin).start)[0]
    noise = torch.empty(16, 0)
    along = twin.transition(state, torch.tensor([[1.0, 0.0]]).expand(16, -1), noise) - state
    assert torch.allclose(along[:, :OWN], 0.5 * state[:, 2 * OWN : 3 * OWN], atol=1e-5)
    apart = twin.transition(state, torch.tensor([[0.0, -1.0]]).expand(16, -1), noise)
    assert torch.allclose(apart[:, :OWN].std(0), 0.5 * state[:, :OWN].std(0), rtol=1e-4)
    assert torch.allclose(apart[:, :OWN].mean(0), state[:, :OWN].mean(0), atol=1e-4)
    assert torch.equal(apart[:, OWN:], state[:, OWN:])


def test_dimensions_are_in_units_of_what_is_left_over():
    twin = fitted_twin(directions="dimensions")
    found = episodes(twin)
    left = (by_condition(found.goal) - by_condition(found.start)).mean(1)[:, :OWN].square().mean(0).sqrt()
    state = found.start[:3]
    moved = twin.transition(state, torch.ones(3, OWN), torch.empty(3, 0)) - state
    assert torch.allclose(moved[:, :OWN], left.expand(3, -1), rtol=1e-3)


def test_expression_is_that_of_the_cell_alone():
    twin = fitted_twin()
    state = episodes(twin).start[:4]
    assert torch.allclose(twin.expression(state), twin.encoder.decode(state[:, :OWN]))


def test_kriging_comes_back_from_a_description_and_predicts_the_same():
    twin = fitted_twin(directions="components")
    path = BytesIO()
    torch.save(twin.describe(), path)
    path.seek(0)
    other = ResidualTwin(directions="components")
    other.restore(torch.load(path, weights_only=True))
    other.load_state_dict(twin.state_dict())
    other.encoder = twin.encoder
    asked = [(Label.parse("GENE0000+GENE0005"), "")]
    assert isinstance(other.response, Kriging)
    assert torch.equal(other.states(other.foretell(asked), 8), twin.states(twin.foretell(asked), 8))
    assert other.perturbations.names == twin.perturbations.names
    assert other.perturbations.min_dose == 0


def test_one_perturbation_is_not_enough():
    cells, encoder = encoded(n_perturbations=1, n_combinations=0)
    with pytest.raises(DataError, match="GENE0000 is all that was measured"):
        ResidualTwin().fit(cells, encoder)


@pytest.mark.parametrize(
    ("option", "value"),
    [("reach", 0.0), ("deciding_fraction", 1.0), ("n_folds", 1), ("cells_per_condition", 1)],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ConfigurationError, match=f"{option} is {value:g}; give"):
        ResidualTwin(**{option: value})
