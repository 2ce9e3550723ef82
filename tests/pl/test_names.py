import four_genes
import numpy as np
from scipy.sparse import csr_matrix

from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts
from perturbrl.pl.names import plain_name
from perturbrl.planning.planners import default_planners, search_planners
from perturbrl.reporting.report_tables import INFORMED
from perturbrl.responses.competitors import competitors

PRIOR = PriorKnowledge("told", ("A",), csr_matrix([[1.0]]), ScreenShifts(("A",), np.ones((1, 1))))


def test_every_design_and_predictor_has_words_of_its_own():
    designs = [planner.name for planner in (*default_planners(), *search_planners())]
    predictors = [baseline.name for baseline in competitors(four_genes.typed_cells(), priors=(PRIOR,))]
    for names in (["policy", *designs], ["twin", *INFORMED, *predictors]):
        # Random doses and greedy search have one class for doses and one for choices, of which one applies.
        words = {plain_name(name) for name in names}
        assert len(words) == len(set(names))
        assert all("_" not in word for word in words)


def test_a_name_of_the_users_own_stays():
    assert plain_name("my_planner") == "my_planner"
