import numpy as np
import pytest
import torch
from judged_designs import PAIR, Fixed, evaluate, problem_of

from perturbrl.evaluation.design_metrics import recall_of_components
from perturbrl.evaluation.metrics import displacement_from_start


class Steps(Fixed):
    """Gives a dose of its own at every step."""

    def action(self, observed, step):
        return self.dose[step].expand(observed.batch_size[0], -1)


def test_recall_of_the_targets_components():
    names = ("A", "B", "C", "D")
    doses = torch.tensor([0.9, 0.1, -0.95, 0.0])
    assert recall_of_components(names, doses, "A+C") == 1.0
    assert recall_of_components(names, doses, "A+B") == 0.5
    assert recall_of_components(names, doses, "C") == 1.0
    assert recall_of_components(names, doses, "B+D") == 0.0
    assert np.isnan(recall_of_components(names, doses, "A+X"))
    assert recall_of_components(names, torch.zeros(4), "A+B") == 0.0
    # Any of three equal doses may be among the two strongest.
    equal = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert recall_of_components(names, equal, "A+B") == pytest.approx(2 / 3)


def test_recall_counts_what_a_cell_receives_over_all_steps():
    problem = problem_of(horizon=2)
    design = Steps("policy", torch.tensor([[0.3, 0.4, 0, 0, 0], [0.3, 0, 0, 0, 0]]))
    assert evaluate([design], problem, label="G0").row("policy").recall == 1.0


def test_the_table_of_designs_gives_the_documented_displacement():
    evaluation = evaluate([Fixed("policy", PAIR)])
    cells = evaluation.simulations["policy"]
    documented = displacement_from_start(cells.final.double().numpy(), cells.start.double().numpy())
    assert evaluation.row("policy").displacement_from_start == pytest.approx(documented, rel=1e-12)
