"""A response model and every baseline judged on held-out conditions: metrics, intervals, genes and cells."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbrl.data.drawing import in_hash_order
from perturbrl.data.labels import CONTROL
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError, listed
from perturbrl.evaluation.coverage import held_share
from perturbrl.evaluation.pairs import FEWEST_CONTROL, FEWEST_TARGET, MeasuredResponses
from perturbrl.evaluation.predicted_response import judge_responses
from perturbrl.evaluation.statistics import mean_interval
from perturbrl.responses.base import PredictedShifts, ResponseModel
from perturbrl.responses.baselines import SplitHalfReplicate
from perturbrl.responses.competitors import competitors
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.inner_split import rows_by_condition
from perturbrl.responses.measured_shifts import MeasuredShifts
from perturbrl.responses.questions import stream_of, text_of
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.schema import CellIndex, GeneVector

LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
# Genes x predictors x conditions of a context whose cells are emitted, at most: others are judged by their means alone.
MOST_EMITTED: Final = 250_000

Means = Float[np.ndarray, "asked genes"]


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """How well a model predicts conditions that it was not shown.

    Attributes:
        table: one row per predictor and condition, columns ``predictor``, ``condition`` and those of
            ``predicted_response.judge_responses``.
        genes: columns ``condition``, ``gene``, ``predicted`` and ``measured`` change of mean log expression,
            conditions with the largest measured change first.
        calibration: columns ``level`` (promised by a central interval), ``covered`` (share of measured shifts inside,
            as ``coverage.held_share`` counts them), ``low`` and ``high`` (95 % over conditions).
        conditions: what was judged.
        left_out: what was not judged, and why, in sentences: conditions with too few held-out cells, and those whose
            cells were not emitted.
    """

    table: pd.DataFrame
    genes: pd.DataFrame
    calibration: pd.DataFrame
    conditions: tuple[Condition, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Judges:
    """Held-out cells by condition.

    Attributes:
        expression: of all held-out cells.
        controls: rows of each context's control cells.
        judging: rows that judge each condition.
        replicate: rows of its other half.
    """

    expression: Float[np.ndarray, "cells genes"]
    controls: Mapping[str, CellIndex]
    judging: Mapping[Condition, CellIndex]
    replicate: Mapping[Condition, CellIndex]

    def mean(self, rows: CellIndex) -> GeneVector:
        """Mean log expression."""
        return self.expression[rows].mean(axis=0)

    def shift(self, condition: Condition) -> GeneVector:
        """Measured change from the held-out control of the context."""
        return self.mean(self.judging[condition]) - self.mean(self.controls[condition[1]])

    def noise(self, condition: Condition) -> GeneVector:
        """Sampling variance of the measured change, from the variance within both populations together."""
        groups = [self.expression[rows] for rows in (self.judging[condition], self.controls[condition[1]])]
        squares = sum(np.square(cells - cells.mean(axis=0)).sum(axis=0) for cells in groups)
        sizes = [len(cells) for cells in groups]
        return squares / (sum(sizes) - 2) * sum(1.0 / size for size in sizes)


def judge_model(
    model: ResponseModel,
    training: TrainingCells,
    held_out: TrainingCells,
    *,
    priors: Sequence[PriorKnowledge] = (),
    beside: Sequence[ResponseModel] = (),
    emitters: Mapping[str, CellEmitter] | None = None,
    spreads: Mapping[Condition, ResponseSpread] | None = None,
    seed: int = 0,
) -> JudgedModel:
    """Judge a model on every held-out condition that has enough cells.

    Half of a condition's held-out cells judge; the other half is the replicate.

    Args:
        model: fitted on the training cells.
        training: what the baselines learn from, too.
        held_out: perturbed and control cells that nothing was learned from.
        priors: what baselines may know, too.
        beside: further models, fitted on the training cells, too.
        emitters: make cells of each context, for metrics of whole populations.
        spreads: what conditions do to the spread of these cells, the same for all predictors; by default nothing.
        seed: of the halves and of random baselines.

    Raises:
        DataError: no condition has enough held-out cells.
    """
    judges, few = _judges(held_out, seed)
    asked, known = list(judges.judging), MeasuredShifts.of(training)
    found = model.predict(asked)
    shifts: dict[str, Means] = {model.name: found.mean}
    shifts |= {one.name: one.predict(asked).mean for one in beside}
    shifts |= {one.name: one.fit(training).predict(asked).mean for one in competitors(training, seed, priors)}
    replicates = [judges.mean(judges.replicate[one]) - known.controls[one[1]] for one in asked]
    shifts[SplitHalfReplicate.name] = np.stack(replicates)
    by_condition = {name: dict(zip(asked, values, strict=True)) for name, values in shifts.items()}
    emitted = _drawn(asked, emitters or {}, max(1, MOST_EMITTED // (len(shifts) * len(known.genes))), seed)
    tables = [
        table
        for context in sorted({where for _, where in asked})
        for table in _in_context(
            context, judges, by_condition, known, emitted, (emitters or {}).get(context), spreads or {}
        )
    ]
    return JudgedModel(
        pd.concat(tables, ignore_index=True),
        _genes(judges, found, training.genes),
        _calibration(judges, found),
        tuple(asked),
        (*few, *_not_emitted(emitted, asked, seed if emitters else None)),
    )


def _drawn(
    asked: Sequence[Condition], emitters: Mapping[str, CellEmitter], most: int, seed: int
) -> frozenset[Condition]:
    """Conditions whose cells are emitted, at most ``most`` of each context."""
    named = {text_of(one): one for one in asked}
    ordered = [named[text] for text in in_hash_order(named, seed)]
    own = ([one for one in ordered if one[1] == context] for context in emitters)
    return frozenset(one for conditions in own for one in conditions[:most])


def _not_emitted(
    emitted: Collection[Condition], asked: Sequence[Condition], seed: int | None
) -> tuple[str, ...]:
    if seed is None or len(emitted) == len(asked):
        return ()
    return (
        f"Metrics of whole populations (energy distance, differential expression): {len(emitted)} of the {len(asked)} "
        f"held-out conditions, drawn with seed {seed}; to predict cells of all, by every predictor, would take long.",
    )


def held_out_conditions(cells: TrainingCells) -> list[Condition]:
    """Perturbed conditions of cells, sorted."""
    return [condition for condition in cells.conditions[0] if not condition[0].is_control]


def _judges(cells: TrainingCells, seed: int) -> tuple[_Judges, tuple[str, ...]]:
    """Held-out cells in halves, and which conditions have too few."""
    groups = rows_by_condition(cells)
    controls = {
        context: rows
        for (label, context), rows in groups.items()
        if label == CONTROL and len(rows) >= FEWEST_CONTROL
    }
    asked = held_out_conditions(cells)
    enough = [one for one in asked if one[1] in controls and len(groups[one]) >= 2 * FEWEST_TARGET]
    few = [text_of(one) for one in sorted(set(asked) - set(enough))]
    said = (
        f"{listed(few, 5)}: judging needs {2 * FEWEST_TARGET} held-out cells of a condition and {FEWEST_CONTROL} "
        "control cells of its context"
    )
    if not enough:
        raise DataError(f"nothing held out can judge ({said}); hold out more cells")
    halves = {one: np.array_split(_shuffled(groups[one], one, seed), 2) for one in enough}
    return _Judges(
        np.asarray(cells.expression, dtype=np.float64),
        controls,
        {one: half[0] for one, half in halves.items()},
        {one: half[1] for one, half in halves.items()},
    ), (said,) if few else ()


def _shuffled(rows: CellIndex, condition: Condition, seed: int) -> CellIndex:
    return np.random.default_rng([seed, stream_of(condition)]).permutation(rows)


def _in_context(
    context: str,
    judges: _Judges,
    shifts: Mapping[str, Mapping[Condition, GeneVector]],
    known: MeasuredShifts,
    emitted: Collection[Condition],
    emitter: CellEmitter | None,
    spreads: Mapping[Condition, ResponseSpread],
) -> Iterator[pd.DataFrame]:
    """Tables of a context: conditions whose cells are emitted, too, and the others."""
    own = [one for one in judges.judging if one[1] == context]
    with_cells, without = ([one for one in own if (one in emitted) == wanted] for wanted in (True, False))
    for some, emitting in ((with_cells, emitter), (without, None)):
        if some:
            yield _table(some, own, judges, shifts, known, emitting, spreads)


def _table(
    some: Sequence[Condition],
    own: Sequence[Condition],
    judges: _Judges,
    shifts: Mapping[str, Mapping[Condition, GeneVector]],
    known: MeasuredShifts,
    emitter: CellEmitter | None,
    spreads: Mapping[Condition, ResponseSpread],
) -> pd.DataFrame:
    context = some[0][1]
    measured = MeasuredResponses(
        known.genes,
        judges.expression[judges.controls[context]],
        {str(one[0]): judges.expression[judges.judging[one]] for one in some},
        {str(one[0]): judges.shift(one) for one in own if one not in some},
    )
    predictors = {name: {str(one[0]): by[one] for one in some} for name, by in shifts.items()}
    spread = {str(one[0]): spreads[one] for one in some if one in spreads}
    table = judge_responses(measured, predictors, _reference(known, context), emitter, spread)
    text = {str(one[0]): text_of(one) for one in some}
    table.insert(1, "condition", table.pop("perturbation").map(text))
    return table


def _reference(known: MeasuredShifts, context: str) -> TrainingCells:
    """What metrics count from and are centred on, as one cell each: control, and training shifts as seen from it."""
    control, shifts = known.controls[context], known.seen_from(context)
    expression = np.stack([control, *(control + shift for shift in shifts.values())])
    return TrainingCells(expression, [CONTROL, *shifts], known.genes)


def _genes(judges: _Judges, found: PredictedShifts, genes: Sequence[str]) -> pd.DataFrame:
    asked = list(judges.judging)
    measured = np.stack([judges.shift(one) for one in asked])
    order = np.argsort(-np.linalg.norm(measured, axis=1), kind="stable")
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "condition": text_of(asked[row]),
                    "gene": list(genes),
                    "predicted": found.mean[row],
                    "measured": measured[row],
                }
            )
            for row in order
        ],
        ignore_index=True,
    )


def _calibration(judges: _Judges, found: PredictedShifts) -> pd.DataFrame:
    """Coverage of central intervals; no row where the model does not tell how sure it is."""
    inside = {
        level: [
            held_share(mean, sd, judges.shift(one), judges.noise(one), level)
            for one, mean, sd in zip(judges.judging, found.mean, found.sd, strict=True)
        ]
        for level in LEVELS
    }
    told = {level: np.array(own)[np.isfinite(own)] for level, own in inside.items()}
    rows = [(level, *astuple(mean_interval(own))) for level, own in told.items() if len(own)]
    table = pd.DataFrame(rows, columns=["level", "covered", "low", "high"])
    return table.assign(low=table["low"].clip(lower=0.0), high=table["high"].clip(upper=1.0))
