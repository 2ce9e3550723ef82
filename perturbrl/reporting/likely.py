"""Which sets of perturbations most probably made the target's cells, as a table of the report."""

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.likely_sets import LARGEST, SHORTLIST, LikelySet, LikelySets
from perturbrl.reporting.report_tables import Table, TableRow
from perturbrl.reporting.report_text import percent

LIKELY_COLUMNS: Final = ("rank", "perturbations", "probability", "evidence")
NOTHING: Final = "nothing"
_LISTED: Final = 100
_SHOWN: Final = 10


def likely_frame(likely: LikelySets | None, problem: DesignProblem) -> pd.DataFrame | None:
    """The most probable sets, best first; ``None`` where they are not told."""
    if likely is None or problem.space.discrete:
        return None
    told = dict(zip(problem.space.names, problem.evidence, strict=False))
    size = min(problem.space.max_perturbations or LARGEST, LARGEST)
    found = likely.ranked(problem.space.names, size)[:_LISTED]
    return pd.DataFrame(_rows(found, told), columns=list(LIKELY_COLUMNS))


def _rows(found: Sequence[LikelySet], told: Mapping[str, str]) -> list[tuple[int, str, float, str]]:
    return [
        (
            rank,
            " + ".join(own.names) or NOTHING,
            own.probability,
            ", ".join(dict.fromkeys(told[name] for name in own.names if name in told)),
        )
        for rank, own in enumerate(found, start=1)
    ]


def likely_table(frame: pd.DataFrame) -> Table:
    """The first of them as text."""
    columns = (frame[name].head(_SHOWN) for name in LIKELY_COLUMNS)
    rows = tuple(
        TableRow((str(rank), str(names), percent(float(probability)), str(evidence)))
        for rank, names, probability, evidence in zip(*columns, strict=True)
    )
    note = (
        "Not where cells end nearest, but what most probably made the target's cells: it weighs how the noise of few "
        "cells, and what is not known of an effect, may mislead, and that there are many more pairs than single "
        "perturbations. Percentages are of all sets compared: nothing, each perturbation alone, and pairs of the "
        f"{SHORTLIST} most probable."
    )
    return Table("likely", "Most probable perturbations", LIKELY_COLUMNS, rows, note)
