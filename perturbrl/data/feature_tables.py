"""Tables of numbers by perturbation as prior knowledge: perturbations alike in them may do alike."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.text_tables import has_no_number, names_rows, table_of
from perturbrl.errors import DataError, listed


def read_features(path: Path | str) -> PriorKnowledge:
    """A table of features, one perturbation a line: its name, then numbers; a first line without numbers names columns.

    Raises:
        DataError: the file is no such table, a name occurs twice, or a feature is missing or no number.
    """
    path = Path(path)
    table = table_of(path, has_no_number)
    table = table.reset_index() if names_rows(table) else table
    if table.empty:
        raise DataError(
            f"'{path.name}' has features of no perturbation; give a name and then numbers on every line"
        )
    if table.shape[1] < 2:
        raise DataError(
            f"'{path.name}' has a column of names and no feature; give a name and then numbers on every line"
        )
    numbers = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    finite = np.isfinite(numbers.to_numpy(dtype=np.float64))
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        raise DataError(
            f"{int((~finite).sum())} of {numbers.size} features of '{path.name}' are missing or no numbers (first: of "
            f"{table.iloc[row, 0]!s}); give a name and then numbers on every line"
        )
    column = table.iloc[:, 0].astype(str)
    names, repeated = tuple(column), sorted(column[column.duplicated()].unique())
    if repeated:
        raise DataError(f"'{path.name}' has features of {listed(repeated, 5)} twice; give each name once")
    centred = numbers.to_numpy(dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    return PriorKnowledge(path.name, names, csr_matrix(centred))
