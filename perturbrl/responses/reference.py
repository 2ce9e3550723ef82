"""A second screen as prior knowledge: what the same perturbations did elsewhere."""

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from perturbrl.data.dataset import load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts
from perturbrl.errors import DataError
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import GeneVector


def read_reference(path: Path | str, columns: ColumnOptions = ColumnOptions()) -> PriorKnowledge:  # noqa: B008  frozen
    """Single perturbations of another file, by their shifts there.

    Shifts are the expected ones of a kriging of that file alone, so those that sampling noise explains are near 0; of a
    perturbation with several doses that of the largest, of one measured in several contexts their mean. Features are
    the shifts without the mean over perturbations, which would make all alike.

    Args:
        path: cells with labels, as the data set itself.
        columns: which columns of its obs say what, where they are not recognised.

    Raises:
        DataError: the file cannot be used, or holds fewer than two single perturbations.
    """
    dataset = load_dataset(path, columns)
    everything = np.arange(dataset.n_cells)
    preprocessor = Preprocessor(n_top_genes=None).fit(dataset, everything)
    types = list(dataset.cell_types) if dataset.fields.cell_type_key else None
    expression = preprocessor.transform_sparse(dataset, everything)
    cells = TrainingCells(expression, list(dataset.labels), preprocessor.genes, types)
    return reference_of(cells, Path(path).name)


def reference_of(cells: TrainingCells, source: str) -> PriorKnowledge:
    """The same of cells.

    Raises:
        DataError: there are fewer than two single perturbations.
    """
    shifts = _single_shifts(cells)
    if len(shifts) < 2:
        raise DataError(
            f"'{source}' holds {len(shifts)} single perturbation, from which nothing can be told of others; give a "
            "screen of two or more"
        )
    values = np.stack(list(shifts.values()))
    features = csr_matrix(values - values.mean(axis=0))
    return PriorKnowledge(source, tuple(shifts), features, ScreenShifts(tuple(cells.genes), values))


def _single_shifts(cells: TrainingCells) -> dict[str, GeneVector]:
    model = Kriging().fit(cells)
    singles = [one for one in model.moments.conditions if not one[0].is_combination]
    if not singles:
        return {}
    found: dict[str, dict[float, list[GeneVector]]] = {}
    for (label, _), shift in zip(singles, model.predict(singles).mean, strict=True):
        part = label.parts[0]
        found.setdefault(part.name, {}).setdefault(part.dose or 0.0, []).append(shift)
    return {name: np.mean(doses[max(doses)], axis=0) for name, doses in sorted(found.items())}
