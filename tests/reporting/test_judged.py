"""A report needs a twin, a task and cells, and no trainer."""

import subprocess
import sys

import pytest
from judged_designs import NOTHING, PAIR, Fixed, problem_of

from perturbrl.errors import ConfigurationError
from perturbrl.reporting.judged import Judged

FROM_ARRAYS = """
import sys
from pathlib import Path

import torch

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.design import UnseenCells
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.planners import BoundedLeastSquares
from perturbrl.reporting.judge import judge, predict
from perturbrl.reporting.judged import Judged
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace

def cells(n, shift=0.0):
    return 0.3 * torch.randn(n, 4) + shift

torch.manual_seed(0)
twin = GeneEffectTwin()
twin.latent_dim, twin.perturbations = 4, PerturbationSpace(("A", "B", "C"))
twin.set_buffers(effects=torch.eye(4)[:3])
twin.start_from(cells(60))
way = torch.tensor([1.0, 0.0, 1.0, 0.0])
goal, reference = cells(30, way), cells(20)
task = ReachCellState()
task.aim(twin.start_cells, goal, reference)
problem = DesignProblem(twin, task, twin.perturbations, 1, goal)
policy = BoundedLeastSquares()
policy.name = "policy"
judged = Judged(problem, policy, "resting", "A+C", reference, ("g1", "g2", "g3", "g4"))
report = judge(judged, UnseenCells(cells(25), cells(25, way), reference, goal)).report
assert predict(judged, cells(10)).report.evaluation is None
assert {hit.perturbation for hit in report.hits[:2]} == {"A", "C"}
assert report.write(Path(sys.argv[1]) / "report").is_file()
print(sorted(name for name in sys.modules if name.split(".")[0] in ("lightning", "pytorch_lightning")))
"""


def test_a_report_is_made_from_arrays_without_lightning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FROM_ARRAYS, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
    assert "A" in (tmp_path / "report" / "report.html").read_text()


def test_a_design_is_judged_under_the_name_that_tables_look_for():
    problem = problem_of()
    rest = ("control", "G0+G1", problem.twin.start_cells, ("a", "b", "c", "d"))
    assert Judged(problem, Fixed("policy", PAIR), *rest).measured is None
    with pytest.raises(ConfigurationError, match="named 'nnls', and tables look for 'policy'"):
        Judged(problem, Fixed("nnls", NOTHING), *rest)
