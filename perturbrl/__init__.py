"""Reinforcement learning for single-cell perturbation analysis: a digital twin and a two-stage policy."""

from typing import TYPE_CHECKING, Any

from perturbrl.errors import PerturbRLError

if TYPE_CHECKING:
    from perturbrl.api import design

__all__ = ["PerturbRLError", "design"]


def __getattr__(name: str) -> Any:
    """Import ``design`` on first use: it brings torch and Lightning, which ``perturbrl.errors`` need not."""
    if name == "design":
        from perturbrl.api import design

        return design
    raise AttributeError(f"module 'perturbrl' has no attribute '{name}'")
