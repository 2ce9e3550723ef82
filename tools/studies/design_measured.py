"""Designs judged on real held-out cells: does what is proposed hold what was really done, and did it really work?

Every measured perturbation or combination is the target in turn (see ``design_targets`` for what is held out with it
and what may be proposed). Half of its cells define the goal, the other half judges. Each method ranks every single
perturbation and every pair that may be proposed (see ``design_rankings``): where is the true one? And of what was
really measured, the target's own cells that define the goal among it, the method's first choice is compared with the
cells that judge (``realised_closure``: 0 is a random choice, 1 a replicate).
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from math import nan
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from quiet import quiet, quiet_trainer

from perturbrl.cli import parse_config
from perturbrl.data.labels import Label
from perturbrl.evaluation.closure import realised_closure
from perturbrl.evaluation.metrics import recall_at_k
from perturbrl.evaluation.rankings import placed
from perturbrl.planning.likely_sets import sets_up_to
from perturbrl.reporting.callback import unseen_cells
from perturbrl.schema import CONTROL_LABEL, CellState
from perturbrl.training.two_stage import TwoStageModule
from studies.design_rankings import BASELINES, OURS, PerSet, Rankings, Sets, of_names
from studies.design_targets import PART, PARTS, TARGET, Part, proposable, targets_of, write_anonymous
from studies.runner import Row, Run, run_all

CONFIG: Final = Path(__file__).parents[2] / "configs" / "gene_screen.yaml"
METHODS: Final = (*OURS, *BASELINES)
METRICS: Final = ("recall_1", "recall_5", "recall_10", "rank", "normalised_rank", "ndcg", "parts", "closure")
LARGEST_SET: Final = 2


def rows(
    name: str, folder: Path, seeds: int, jobs: int, out: Path, only: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per target and seed of a data set (``PARTS``), made where ``out`` lacks it.

    Args:
        name: data set.
        folder: of the files.
        seeds: of the split and the policy.
        jobs: runs side by side.
        out: CSV of the rows.
        only: targets; ``None`` takes all.
    """
    runs: list[Run] = [
        {"part": part, "target": target, "seed": seed}
        for part in PARTS[name]
        for target in targets_of(folder, PART[part])
        if only is None or target in only
        for seed in range(seeds)
    ]
    return run_all(partial(one_target, folder), runs, out, jobs)


def one_target(folder: Path, setting: Run) -> Row:
    """Every metric of every method on one target."""
    quiet()
    part, target, seed = PART[str(setting["part"])], str(setting["target"]), int(str(setting["seed"]))
    names = proposable(folder, part, Label.parse(target))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "anonymous.h5ad"
        write_anonymous(folder, part, target, path)
        module = trained(folder, part, path, names, seed)
        sets = sets_up_to(len(names), LARGEST_SET)
        found = Rankings(module, names, sets).scores()
        right = sets.index(tuple(names.index(name) for name in Label.parse(target).names))
        return _row(module, names, sets, right, found)


def trained(folder: Path, part: Part, path: Path, names: Sequence[str], seed: int) -> TwoStageModule:
    """The policy of the shipped configuration, trained by its defaults."""
    options = [
        f"--config={CONFIG}",
        f"--seed_everything={seed}",
        f"--data.path={path}",
        f"--data.target={TARGET}",
        f"--data.split.init_args.seed={seed}",
        f"--data.allowed_perturbations={json.dumps(list(names))}",
    ]
    if part.gene_sets is not None:
        options.append(f"--data.gene_sets={folder / part.gene_sets}")
    built = parse_config(options)
    trainer = quiet_trainer(built.max_epochs)
    trainer.fit(built.model, built.data)
    return built.model


def _row(
    module: TwoStageModule, names: Sequence[str], sets: Sets, right: int, found: Mapping[str, PerSet]
) -> Row:
    cells = unseen_cells(module)
    detectability = cells.detectability()
    row: Row = {
        "n_sets": len(sets),
        "n_names": len(names),
        "p_value": nan if detectability is None else round(detectability.p_value, 5),
    }
    closures = _Closures.of(module, names, sets, right)
    for method in METHODS:
        scores = found[method]
        place = placed(scores, right)
        parts = np.isin(np.arange(len(names)), sets[right])
        values = {
            "recall_1": place.recall_1,
            "recall_5": place.recall_5,
            "recall_10": place.recall_10,
            "rank": place.rank,
            "normalised_rank": place.normalised_rank,
            "ndcg": place.ndcg,
            "parts": recall_at_k(of_names(scores, sets, len(names)), parts, int(parts.sum())),
            "closure": closures.nothing if method == "no_op" else closures.of_ranking(scores),
        }
        row |= {f"{method}:{metric}": round(values[metric], 5) for metric in METRICS}
    return row


class _Closures:
    """Realised closure of each set that was measured.

    Attributes:
        nothing: of doing nothing.
    """

    def __init__(self, places: np.ndarray, values: np.ndarray, nothing: float) -> None:
        self._places, self._values, self.nothing = places, values, nothing

    @classmethod
    def of(cls, module: TwoStageModule, names: Sequence[str], sets: Sets, right: int) -> "_Closures":
        """The target's own cells that define the goal are its replicate."""
        data, place = module.data, {own: i for i, own in enumerate(sets)}
        judging, replicate = data.cells(TARGET, "test"), data.cells(TARGET, "goal")
        measured: dict[int, CellState] = {right: replicate}
        for label in data.measured.dataset.perturbations:
            own = tuple(sorted(names.index(name) for name in label.names if name in names))
            if own in place and len(own) == len(label.names) and label != TARGET:
                measured[place[own]] = data.cells(label, "all")
        choices = list(measured.values())
        closure = partial(realised_closure, judging=judging, replicate=replicate, choices=choices)
        values = np.array([closure(cells) for cells in choices])
        return cls(np.array(list(measured)), values, closure(data.cells(CONTROL_LABEL, "test")))

    def of_ranking(self, scores: PerSet) -> float:
        """That of the first of what was measured, the mean over equals."""
        own = scores[self._places]
        return float(self._values[own == own.max()].mean())
