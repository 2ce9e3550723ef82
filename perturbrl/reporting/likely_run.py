"""What a run towards cells under a perturbation knows of which perturbations made them."""

from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.planning.likely_sets import LikelySets
from perturbrl.responses.kriging import EXACT_ROWS, Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import CONTROL_LABEL
from perturbrl.training.progress import working
from perturbrl.training.two_stage import TwoStageModule


def likely_sets(module: TwoStageModule) -> LikelySets | None:
    """How probable sets are; ``None`` where this is not told.

    That is towards a state that is learned from, from cells other than the controls, of several cell types, in states
    that are no principal components, and of ``EXACT_ROWS`` populations or more.
    """
    data = module.data
    known = data.has_cells and not data.learn_target and data.source == CONTROL_LABEL
    if not known or not isinstance(data.encoder, PCAEncoder):
        return None
    cells = data.training_cells()
    if len(cells.perturbations) >= EXACT_ROWS or len(set(cells.contexts or ())) > 1:
        return None
    with working("weighing what may have made the target's cells"):
        training = TrainingCells(cells.expression, cells.labels, cells.genes, cells.contexts)
        goal = data.expression(str(data.target), "goal")
        return LikelySets.of(Kriging(cells.priors).fit(training), data.encoder, cells, goal)
