"""Figures, each usable on its own: from tables and arrays to a ``Plot``, a matplotlib figure with its numbers."""

from perturbrl.pl.cells import plot_latent_map, plot_trajectory_distances, trajectory_distances
from perturbrl.pl.designs import plot_designs
from perturbrl.pl.doses import plot_dose_schedule, plot_hits
from perturbrl.pl.genes import plot_delta, plot_top_genes
from perturbrl.pl.judged_responses import plot_calibration, plot_predicted_against_measured
from perturbrl.pl.landscape import plot_landscape, travelled_states, wandering_states
from perturbrl.pl.learning import plot_learning
from perturbrl.pl.next_experiments import plot_next_experiments, plot_strategies
from perturbrl.pl.responses import plot_effects, plot_panel, plot_response_genes
from perturbrl.pl.style import Plot
from perturbrl.pl.undosed_ways import plot_fates, plot_undosed_components, plot_undosed_order

__all__ = [
    "Plot",
    "plot_calibration",
    "plot_delta",
    "plot_designs",
    "plot_dose_schedule",
    "plot_effects",
    "plot_fates",
    "plot_hits",
    "plot_landscape",
    "plot_latent_map",
    "plot_learning",
    "plot_next_experiments",
    "plot_panel",
    "plot_predicted_against_measured",
    "plot_response_genes",
    "plot_strategies",
    "plot_top_genes",
    "plot_trajectory_distances",
    "plot_undosed_components",
    "plot_undosed_order",
    "trajectory_distances",
    "travelled_states",
    "wandering_states",
]
