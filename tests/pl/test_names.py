import four_genes

from perturbrl.pl.names import plain_name
from perturbrl.planning.planners import default_planners, search_planners
from perturbrl.reporting.report_tables import INFORMED
from perturbrl.responses.competitors import competitors


def test_every_design_and_predictor_has_words_of_its_own():
    designs = [planner.name for planner in (*default_planners(), *search_planners())]
    predictors = [baseline.name for baseline in competitors(four_genes.typed_cells())]
    for names in (["policy", *designs], ["twin", *INFORMED, *predictors]):
        # Random doses and greedy search have one class for doses and one for choices, of which one applies.
        words = {plain_name(name) for name in names}
        assert len(words) == len(set(names))
        assert all("_" not in word for word in words)


def test_a_name_of_the_users_own_stays():
    assert plain_name("my_planner") == "my_planner"
