"""A plan by outcome: what it says, what it refuses, and that null data stay null."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pair_outcomes import growth, outcomes_of

from perturbrl.data.costs import Costs
from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.planning.outcome_plan import plan_by_outcome
from perturbrl.planning.outcome_question import OutcomeQuestion


def question(interaction: float = 0.1, seed: int = 0, **more: object) -> OutcomeQuestion:
    panel, values = growth(18, interaction, seed=seed)
    return OutcomeQuestion(outcomes_of(panel, values, 90), seed=seed, **more)


def test_pairs_that_are_chosen_are_strong_in_truth() -> None:
    panel, values = growth(18)
    asked = question()
    found = plan_by_outcome(asked, 6)
    row_of = {
        Label.parse("+".join(panel.names[i] for i in pair)): row for row, pair in enumerate(panel.pairs)
    }
    size = np.abs(panel.deviations(values))
    chosen = [row_of[Label.parse(name)] for name in found.table["name"]]
    is_open = [row for label, row in row_of.items() if label not in asked.outcomes.pairs]
    assert size[chosen].mean() > 2.0 * size[is_open].mean()
    assert not set(found.table["name"]) & set(map(str, asked.outcomes.pairs))
    worth = found.compared.set_index("strategy")["worth"]
    assert list(worth.index) == ["strong interactions", "uncertainty", "greedy", "random"]
    assert worth["strong interactions"] == worth.max() > 2.0 * worth["random"]
    assert found.table["gain"].sum() == pytest.approx(worth["strong interactions"])
    assert (found.table["low"] <= found.table["expected"]).all()
    assert (found.table["expected"] <= found.table["high"]).all()
    assert "strongest interactions are expected among these 6 pairs" in found.answer


@pytest.mark.parametrize("seed", range(2))
def test_without_interactions_it_is_said_that_nothing_is_foretold(seed: int) -> None:
    found = plan_by_outcome(question(0.0, seed), 5)
    assert found.answer.startswith("Nothing shows that interactions can be foretold")


def test_learning_is_a_goal_too() -> None:
    found = plan_by_outcome(question(goal="responses"), 5)
    worth = found.compared.set_index("strategy")["worth"]
    assert 1.0 > worth["learn"] == worth.max() > worth["random"] > 0.0


def test_candidates_and_costs_are_heeded(tmp_path: Path) -> None:
    asked = question()
    first, second = plan_by_outcome(asked, 2).table["name"]
    dear = Costs.checked(dict.fromkeys(asked.outcomes.singles, 1.0) | {first: 1e6})
    assert first not in set(plan_by_outcome(replace(asked, costs=dear), 2).table["name"])
    only = plan_by_outcome(replace(asked, candidates=[second]), 1)
    assert list(only.table["name"]) == [second]
    listed = tmp_path / "pairs.txt"
    listed.write_text(f"{next(iter(asked.outcomes.pairs))}\n{first}\nnobody+knows\n")
    assert list(plan_by_outcome(replace(asked, candidates=str(listed)), 1).table["name"]) == [first]


def test_what_cannot_be_is_one_sentence() -> None:
    asked = question()
    measured = str(next(iter(asked.outcomes.pairs)))
    for wrong, kind, said in (
        (
            replace(asked, goal="target"),
            ConfigurationError,
            "an outcome is a number, which has no target population",
        ),
        (
            replace(asked, n_strongest=0),
            ConfigurationError,
            "n_strongest is 0 and there are 153 pairs; give a number",
        ),
        (replace(asked, candidates=[measured]), ConfigurationError, "is measured already"),
        (
            replace(asked, candidates=["G00+NONE"]),
            ConfigurationError,
            "is no pair of perturbations with an outcome alone",
        ),
    ):
        with pytest.raises(kind, match=said):
            plan_by_outcome(wrong, 1)
    with pytest.raises(
        ConfigurationError, match="n is 1000 and there are only 63 candidates; ask for at most 63"
    ):
        plan_by_outcome(asked, 1000)


def test_a_pair_without_singles_and_too_few_pairs_are_refused() -> None:
    asked = question()
    singles = {name: value for name, value in asked.outcomes.singles.items() if name != "G03"}
    with pytest.raises(DataError, match=r"1 perturbations of measured pairs have no number alone \(G03\)"):
        plan_by_outcome(replace(asked, outcomes=replace(asked.outcomes, singles=singles)), 1)
    few = dict(list(asked.outcomes.pairs.items())[:4])
    with pytest.raises(DataError, match="the outcome of only 4 pairs was measured"):
        plan_by_outcome(replace(asked, outcomes=replace(asked.outcomes, pairs=few)), 1)


def test_more_pairs_than_can_be_compared_are_refused() -> None:
    asked = question()
    many = {f"X{i}": 0.0 for i in range(150)} | dict(asked.outcomes.singles)
    with pytest.raises(DataError, match="168 singles have 14,028 pairs, and 10,000 are compared at most"):
        plan_by_outcome(replace(asked, outcomes=replace(asked.outcomes, singles=many)), 1)
