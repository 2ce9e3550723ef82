"""A linear twin with known effects, and what is built on it."""

import torch

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.tasks import ReachCellState
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear_twin(effects, start=None, low=0.0, high=1.0, noise_scale=0.0, **space):
    twin = GeneEffectTwin(noise_scale=noise_scale)
    twin.latent_dim = effects.shape[1]
    twin.set_buffers(effects=effects)
    names = [f"G{i}" for i in range(len(effects))]
    twin.perturbations = PerturbationSpace(names, low, high, **space)
    twin.start_from(normal(50, effects.shape[1], seed=9) if start is None else start)
    return twin


def linear_env(effects, shift, n_cells=4, horizon=1, task=None, low=0.0, noise_scale=0.0, **space):
    twin = linear_twin(effects, low=low, noise_scale=noise_scale, **space)
    task = ReachCellState() if task is None else task
    task.aim(twin.start_cells, twin.start_cells + shift)
    return CellStateEnv(twin, task, n_cells=n_cells, horizon=horizon)
