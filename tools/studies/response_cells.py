"""Predicted cells of the response study: how far whole populations are from held-out ones.

Every predictor's mean becomes cells by the same emission, from the same control cells and with the spread that training
cells tell; ``shifted_copy`` is control cells with kriging's shift added to their log expression. Energy distance over
all genes in log expression to ``MOST_JUDGING`` held-out cells at most, three times: of ``N_CELLS`` predicted cells and
of as many as judge, as the registry defines it (V-statistic, too large by what the number of cells makes of it), and
without that bias (U-statistic), by which predictors and a replicate of fewer cells compare.
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
REPLICATE: Final = "split_half_replicate"
MANY, AS_MANY, UNBIASED = "energy_distance", "energy_distance_as_many", "energy_distance_unbiased"
OF_CELLS: Final = (MANY, AS_MANY, UNBIASED)


def energy_distances(
    emitter: CellEmitter,
    spread: ResponseSpread,
    shifts: Mapping[str, GeneVector],
    copied: str,
    judging: LogExpression,
    replicate: LogExpression,
) -> dict[str, dict[str, float]]:
    """Of the cells of every predictor, by metric.

    Args:
        emitter: of the context's control cells.
        spread: of the condition.
        shifts: by predictor.
        copied: the predictor whose shift is added to control cells.
        judging: held-out cells.
        replicate: others of them.
    """
    real, control = judging[:MOST_JUDGING], emitter.control.log_mean
    # Where nothing tells them apart, several baselines expect the same and get the same cells.
    of_shift: dict[bytes, dict[str, float]] = {}
    for shift in shifts.values():
        if shift.tobytes() not in of_shift:
            cells = emitter.emit(control + shift, N_CELLS, spread=spread).log_expression
            of_shift[shift.tobytes()] = _distances(cells, real)
    copy = emitter.emit(control, N_CELLS).log_expression + shifts[copied]
    return {name: of_shift[shift.tobytes()] for name, shift in shifts.items()} | {
        SHIFTED_COPY: _distances(copy, real),
        REPLICATE: _distances(replicate[:MOST_JUDGING], real),
    }


def _distances(cells: LogExpression, real: LogExpression) -> dict[str, float]:
    return {
        MANY: energy_distance(cells, real),
        AS_MANY: energy_distance(cells[: len(real)], real),
        UNBIASED: energy_distance(cells, real, "u"),
    }
