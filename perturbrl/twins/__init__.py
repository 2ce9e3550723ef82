"""Digital twins: how cells move under perturbation."""

from perturbrl.twins.checks import check_twin

__all__ = ["check_twin"]
