"""Every TensorDict key, AnnData field and shape alias, named once.

Shapes use jaxtyping. The axis names that all files share:

- ``cells``: cells simulated or measured side by side
- ``latent``: dimensions of the cell state
- ``perturbations``: perturbations that may be dosed
- ``genes``: measured genes
- ``time``: steps of a trajectory
"""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

# TensorDict keys; the first block is TorchRL's own vocabulary.
OBSERVATION: Final = "observation"
ACTION: Final = "action"
REWARD: Final = "reward"
DONE: Final = "done"
TERMINATED: Final = "terminated"
TRUNCATED: Final = "truncated"
ACTION_LOG_PROB: Final = "action_log_prob"
ADVANTAGE: Final = "advantage"
STATE_VALUE: Final = "state_value"
VALUE_TARGET: Final = "value_target"
NEXT: Final = "next"

CELL_STATE: Final = "cell_state"
GOAL_STATE: Final = "goal_state"
WAY: Final = "way"
DOSE: Final = "dose"
USED: Final = "used"
STEP_COUNT: Final = "step_count"
MEMBER: Final = "member"

# What a population's expression is given in; shifts are differences of it.
EXPRESSION_UNIT: Final = "mean log1p(counts per 10,000)"

# AnnData fields that perturbrl reads or writes.
LATENT_OBSM: Final = "X_latent"
COUNTS_LAYER: Final = "counts"
PERTURBATION_OBS: Final = "perturbation"
IS_CONTROL_OBS: Final = "is_control"
SIZE_FACTOR_OBS: Final = "size_factor"
CELL_TYPE_OBS: Final = "cell_type"
BATCH_OBS: Final = "batch"
PERTURBATION_TYPE_OBS: Final = "perturbation_type"
GUIDE_OBS: Final = "guide_id"
TIME_OBS: Final = ("time", "time_h", "time_point", "timepoint", "day", "days", "hours")
PSEUDOTIME_OBS: Final = ("pseudotime", "dpt_pseudotime", "latent_time", "palantir_pseudotime")
CONTROL_LABEL: Final = "control"
COMBINATION_SEPARATOR: Final = "+"
DOSE_SEPARATOR: Final = ":"

# Counts per cell that expression is normalised to before its logarithm is taken.
TARGET_SUM: Final = 1e4

CellState = Float[Tensor, "cells latent"]
WholeState = Float[Tensor, "cells state"]
"""All that a twin knows of cells: their place, and what it remembers beside it."""
Population = Float[Tensor, "_ latent"]
Dose = Float[Tensor, "cells perturbations"]
UsedMask = Bool[Tensor, "cells perturbations"]
PerCell = Float[Tensor, " cells"]
Members = Int[Tensor, " cells"]
CellMask = Bool[Tensor, " cells"]
Expression = Float[Tensor, "cells genes"]
GeneDose = Float[Tensor, "cells genes"]
CellIndex = Int[np.ndarray, "_"]
GeneVector = Float[np.ndarray, " genes"]
LogExpression = Float[np.ndarray, "_ genes"]
Points = Float[np.ndarray, "_ latent"]
