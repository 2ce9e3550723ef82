"""Reinforcement learning for single-cell perturbation analysis: a digital twin and a two-stage policy."""

from typing import TYPE_CHECKING, Any

from perturbrl.errors import PerturbRLError

if TYPE_CHECKING:
    from perturbrl.api import design, respond

__all__ = ["PerturbRLError", "design", "respond"]


def __getattr__(name: str) -> Any:
    """Import the calls on first use: they bring torch and Lightning, which ``perturbrl.errors`` need not."""
    if name in ("design", "respond"):
        from perturbrl import api

        return getattr(api, name)
    raise AttributeError(f"module 'perturbrl' has no attribute '{name}'")
