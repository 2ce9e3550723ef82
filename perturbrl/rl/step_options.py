"""The options of a natural-gradient step: their defaults and ranges, for the optimiser and the command line alike."""

from dataclasses import dataclass
from typing import Literal

from perturbrl.errors import ConfigurationError


@dataclass(frozen=True)
class StepOptions:
    """Options of one natural-gradient step.

    Args:
        max_kl: radius δ, the hard limit on the mean KL of one step, in nats summed over action dimensions.
        cg_damping: λ, added to the Fisher matrix's diagonal, in the same units.
        cg_max_steps: conjugate-gradient iterations, at most.
        cg_tolerance: they stop once one brings less than this share of the quadratic model's gain.
        precondition: use the Kronecker-factored Fisher matrix as preconditioner (policies that are perceptrons).
        line_search_max_iter: step lengths tried before the step is given up.
        line_search_shrinking_factor: what each trial multiplies the step by, or less after a KL far off.
        kl_scaling: length of the full step, by the undamped curvature or as the paper prints it.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    max_kl: float = 0.5
    cg_damping: float = 1.0
    cg_max_steps: int = 10
    cg_tolerance: float = 1e-4
    precondition: bool = True
    line_search_max_iter: int = 10
    line_search_shrinking_factor: float = 0.8
    kl_scaling: Literal["undamped", "damped"] = "undamped"

    def __post_init__(self) -> None:
        for name in ("max_kl", "cg_max_steps", "line_search_max_iter"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        _require(self.cg_damping >= 0, "cg_damping", self.cg_damping, "0 or more")
        _require(self.cg_tolerance >= 0, "cg_tolerance", self.cg_tolerance, "0 or more")
        factor = self.line_search_shrinking_factor
        _require(0 < factor < 1, "line_search_shrinking_factor", factor, "a number between 0 and 1")
        scaling = self.kl_scaling
        _require(scaling in ("undamped", "damped"), "kl_scaling", scaling, "'undamped' or 'damped'")


def _require(condition: bool, option: str, value: object, meaning: str) -> None:
    if not condition:
        raise ConfigurationError(f"{option} is {value!r}; give {meaning}")
