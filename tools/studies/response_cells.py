"""Predicted cells of the response study: how far whole populations are from held-out ones.

Energy distance over all genes in log expression, as the registry defines it (V-statistic), between ``N_CELLS``
predicted cells and ``MOST_JUDGING`` held-out ones at most. Kriging's cells are emitted with the spread that training
cells tell. Those of every baseline, and of kriging's own mean as ``shifted_copy``, are control cells with the expected
shift added to their log expression. Every predictor starts from the same control cells. What is drawn has sampling
noise and a shifted copy has none, so predicted cells are many.
"""

from collections.abc import Mapping
from typing import Final

from perturbrl.evaluation.distances import energy_distance
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.spread import ResponseSpread
from perturbrl.schema import GeneVector, LogExpression

N_CELLS: Final = 1000
MOST_JUDGING: Final = 300
SHIFTED_COPY: Final = "shifted_copy"


def energy_distances(
    emitter: CellEmitter,
    spread: ResponseSpread,
    emitted: str,
    shifts: Mapping[str, GeneVector],
    judging: LogExpression,
    replicate: LogExpression,
) -> dict[str, float]:
    """Of the cells of every predictor.

    Args:
        emitter: of the context's control cells.
        spread: of the predictor whose cells are emitted.
        emitted: this predictor's name.
        shifts: by predictor; those of the replicate are its own cells.
        judging: held-out cells.
        replicate: others of them.
    """
    control = emitter.control.log_mean
    start, real = emitter.emit(control, N_CELLS).log_expression, judging[:MOST_JUDGING]
    copies = {SHIFTED_COPY: shifts[emitted]} | {
        name: shift for name, shift in shifts.items() if name != emitted
    }
    moved = emitter.emit(control + shifts[emitted], N_CELLS, spread=spread).log_expression
    found = {name: energy_distance(start + shift, real) for name, shift in copies.items()}
    return found | {
        emitted: energy_distance(moved, real),
        "split_half_replicate": energy_distance(replicate[:MOST_JUDGING], real),
    }
