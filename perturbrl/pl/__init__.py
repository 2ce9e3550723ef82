"""Figures, each usable on its own: from tables and arrays to a ``Plot``, a matplotlib figure with its numbers."""

from perturbrl.pl.cells import plot_latent_map, plot_trajectory_distances, trajectory_distances
from perturbrl.pl.designs import plot_designs
from perturbrl.pl.doses import plot_dose_schedule, plot_hits
from perturbrl.pl.genes import plot_delta, plot_top_genes
from perturbrl.pl.landscape import plot_landscape, wandering_states
from perturbrl.pl.learning import plot_learning
from perturbrl.pl.style import Plot

__all__ = [
    "Plot",
    "plot_delta",
    "plot_designs",
    "plot_dose_schedule",
    "plot_hits",
    "plot_landscape",
    "plot_latent_map",
    "plot_learning",
    "plot_top_genes",
    "plot_trajectory_distances",
    "trajectory_distances",
    "wandering_states",
]
