"""Reinforcement learning for single-cell perturbation analysis: a digital twin and a two-stage policy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perturbrl.errors import PerturbRLError

if TYPE_CHECKING:
    from perturbrl import pl
    from perturbrl.api import design, next_experiments, respond
    from perturbrl.data.presets import ColumnOptions

__all__ = ["ColumnOptions", "PerturbRLError", "design", "next_experiments", "pl", "respond"]


def __getattr__(name: str) -> Any:
    """Import calls and figures on first use: they bring torch and Lightning, which ``perturbrl.errors`` need not."""
    if name == "pl":
        return import_module("perturbrl.pl")
    if name in ("design", "next_experiments", "respond"):
        return getattr(import_module("perturbrl.api"), name)
    if name == "ColumnOptions":
        return import_module("perturbrl.data.presets").ColumnOptions
    raise AttributeError(f"module 'perturbrl' has no attribute '{name}'")
