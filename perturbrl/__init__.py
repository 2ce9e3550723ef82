"""Reinforcement learning for single-cell perturbation analysis: a digital twin and a two-stage policy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perturbrl.errors import PerturbRLError

if TYPE_CHECKING:
    from perturbrl import pl
    from perturbrl.api import design, respond

__all__ = ["PerturbRLError", "design", "pl", "respond"]


def __getattr__(name: str) -> Any:
    """Import calls and figures on first use: they bring torch and Lightning, which ``perturbrl.errors`` need not."""
    if name == "pl":
        return import_module("perturbrl.pl")
    if name in ("design", "respond"):
        from perturbrl import api

        return getattr(api, name)
    raise AttributeError(f"module 'perturbrl' has no attribute '{name}'")
