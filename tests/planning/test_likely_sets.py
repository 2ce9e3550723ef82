"""Sets of perturbations by how probable they are, given the goal's cells."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from linear_twin import linear_twin

from perturbrl.data.labels import Label
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning import likely_sets
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.likely_sets import LikelySets, sets_up_to
from perturbrl.planning.most_likely import MostLikelyDesign
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.twins.perturbations import PerturbationSpace

GENES = tuple(f"g{i}" for i in range(15))
NAMES = tuple("ABCDEF")
EFFECTS = dict(zip(NAMES, np.random.default_rng(0).normal(size=(6, 15)), strict=True))
NOISE = np.linspace(0.3, 2.0, 15)


def population(label: str, n: int, seed: int) -> np.ndarray:
    shift = sum((EFFECTS[name] for name in Label.parse(label).names), np.zeros(15))
    return 3.0 + shift + NOISE * np.random.default_rng(seed).normal(size=(n, 15))


def likely(target: str, *, n_goal: int = 30, whiten: bool = True) -> LikelySets:
    labels = ["control"] * 200 + [name for name in (*NAMES, "A+B", "C+D") for _ in range(40)]
    counts = {"control": 200} | dict.fromkeys((*NAMES, "A+B", "C+D"), 40)
    expression = np.concatenate(
        [population(label, n, seed) for seed, (label, n) in enumerate(counts.items())]
    )
    values = torch.as_tensor(expression, dtype=torch.float32)
    encoder = PCAEncoder(8, whiten=whiten).fit(values)
    cells = EncodedCells(encoder.encode(values), values, tuple(labels), GENES)
    response = Kriging().fit(TrainingCells(expression, labels, GENES))
    goal = torch.as_tensor(population(target, n_goal, 99), dtype=torch.float32)
    return LikelySets.of(response, encoder, cells, goal)


def best(target: str, sets: list[tuple[int, ...]], **options: int) -> str:
    scores = likely(target, **options).scores(NAMES, sets)
    return "+".join(NAMES[i] for i in sets[int(scores.argmax())])


@pytest.mark.parametrize("target", ["A", "F", "B+E", "D+F"])
def test_the_right_set_is_the_most_probable_of_all(target: str) -> None:
    assert best(target, sets_up_to(6, 2)) == target


@pytest.mark.parametrize("n_goal", [30, 300])
def test_cells_that_are_as_control_cells_are_say_nothing_is_most_probable(n_goal: int) -> None:
    assert best("control", [(), *sets_up_to(6, 2)], n_goal=n_goal) == ""


def test_a_larger_set_pays_for_how_many_there_are_of_its_size() -> None:
    sets = sets_up_to(6, 2)
    scores = likely("A").scores(NAMES, sets)
    without = likely("A").scores(NAMES[:2], [(0,), (1,), (0, 1)])
    more = (scores[sets.index((0,))] - scores[sets.index((0, 1))]) - (without[0] - without[2])
    assert more == pytest.approx(np.log(15 / 6) - np.log(1 / 2))


def test_units_of_the_cell_state_do_not_matter() -> None:
    sets = sets_up_to(6, 2)
    scores = [likely("B+E", whiten=whiten).scores(NAMES, sets) for whiten in (True, False)]
    np.testing.assert_allclose(*(one - one.max() for one in scores), atol=1e-3)


def test_a_genes_own_expression_speaks_for_its_perturbation() -> None:
    model = likely("A")
    plain = model.scores(NAMES, [(0,), (1,), (0, 1)])
    told = replace(model, on_target={"B": 3.0, "OTHER": 9.0}).scores(NAMES, [(0,), (1,), (0, 1)])
    np.testing.assert_allclose(told - plain, [0.0, 3.0, 3.0])


def test_sets_are_all_there_are_of_up_to_a_size() -> None:
    assert sets_up_to(3, 2) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(sets_up_to(17, 2)) == 153


def test_what_is_most_probable_comes_first_and_all_of_it_is_1() -> None:
    found = likely("B+E").ranked(NAMES)
    assert found[0].names == ("B", "E")
    assert {one.names for one in found} == {(), *((NAMES[i],) for i in range(6)), *combinations(NAMES, 2)}
    shares = [one.probability for one in found]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0)
    assert {len(one.names) for one in likely("B+E").ranked(NAMES, 1)} == {0, 1}


def test_of_many_perturbations_the_most_probable_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likely_sets, "SHORTLIST", 3)
    model = likely("B+E")
    alone = model.scores(NAMES, [(i,) for i in range(6)])
    few = {NAMES[i] for i in np.argsort(-alone)[:3]}
    pairs = {one.names for one in model.ranked(NAMES) if len(one.names) == 2}
    assert pairs == {pair for pair in combinations(NAMES, 2) if set(pair) <= few}


@pytest.mark.parametrize(("limit", "dosed"), [(None, [1, 4]), (2, [1, 4]), (1, None)])
def test_the_design_gives_the_most_probable_set_at_full_doses(
    limit: int | None, dosed: list[int] | None
) -> None:
    twin = linear_twin(torch.as_tensor(np.stack(list(EFFECTS.values()))).float(), high=0.9)
    twin.perturbations = PerturbationSpace(NAMES, 0.0, 0.9, max_perturbations=limit)
    task = ReachCellState()
    goal = twin.start_cells + 1.0
    task.aim(twin.start_cells, goal)
    model = likely("B+E")
    schedule = MostLikelyDesign(model).schedule_for(DesignProblem(twin, task, twin.perturbations, 3, goal))
    assert schedule is not None
    assert schedule.shape == (3, 6)
    assert not schedule[1:].any()
    expected = dosed or [NAMES.index(name) for name in model.ranked(NAMES, 1)[0].names]
    assert schedule[0].nonzero()[:, 0].tolist() == expected
    assert torch.allclose(schedule[0, expected], torch.tensor(0.9))
