"""A twin as a user writes it from the documentation: fitted on cells, nothing stored beyond its own buffers."""

import torch

from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


class PulledTwin(DigitalTwin):
    """Each single perturbation adds its mean shift, and cells are pulled back to the mean control cell."""

    needs_data = True
    relaxation_steps = 1

    def __init__(self, pull=0.1, discrete=False):
        super().__init__()
        self.pull, self.discrete = pull, discrete
        self.register_buffer("effects", torch.empty(0, 0))
        self.register_buffer("rest", torch.empty(0))

    def fit(self, cells, encoder):
        names = [name for name in cells.perturbations if "+" not in name]
        rest = cells.mean_of("control")
        self.set_buffers(rest=rest, effects=torch.stack([cells.mean_of(name) - rest for name in names]))
        self.latent_dim = encoder.latent_dim
        self.perturbations = PerturbationSpace(names, discrete=self.discrete)
        return self

    def transition(self, state, dose, noise):
        return state + self.pull * (self.rest - state) + dose @ self.effects
