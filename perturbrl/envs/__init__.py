"""Twins, tasks and the environment that joins them."""

from perturbrl.envs.checks import check_twin

__all__ = ["check_twin"]
