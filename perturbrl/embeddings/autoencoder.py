"""A small autoencoder: the non-linear encoder."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from perturbrl.embeddings.base import Encoder, check_enough
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellState, Expression


class AutoencoderEncoder(Encoder):
    """Cell states are the bottleneck of an autoencoder trained with squared error on standardised genes.

    A tenth of the training cells is set aside to stop training when the error there no longer falls.

    Args:
        latent_dim: width of the bottleneck.
        hidden_sizes: widths of the encoder's hidden layers; the decoder mirrors them.
        learning_rate: of Adam.
        max_epochs: passes over the training cells, at most.
        patience: epochs without improvement after which training stops.
        minibatch_size: cells per gradient step.
        seed: of the weights, the order of cells and the cells set aside.

    Raises:
        ConfigurationError: an option that counts something is below 1.
    """

    mean: Float[Tensor, " genes"]
    scale: Float[Tensor, " genes"]

    def __init__(
        self,
        latent_dim: int = 20,
        hidden_sizes: Sequence[int] = (128,),
        learning_rate: float = 1e-3,
        max_epochs: int = 100,
        patience: int = 10,
        minibatch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts = {"max_epochs": max_epochs, "patience": patience, "minibatch_size": minibatch_size}
        for name, value in {**counts, "hidden_sizes": min(hidden_sizes, default=1)}.items():
            if value < 1:
                raise ConfigurationError(f"the autoencoder's {name} is {value}; give at least 1")
        self.latent_dim, self.hidden_sizes, self.seed = latent_dim, tuple(hidden_sizes), seed
        self.learning_rate, self.minibatch_size = learning_rate, minibatch_size
        self.max_epochs, self.patience = max_epochs, patience
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("scale", torch.empty(0))
        self.encoder = nn.Sequential()
        self.decoder = nn.Sequential()

    def _build(self, n_genes: int) -> None:
        sizes = (n_genes, *self.hidden_sizes, self.latent_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.encoder = _stack(sizes).to(self.mean.device)
            self.decoder = _stack(sizes[::-1]).to(self.mean.device)
        self.requires_grad_(False)

    def take_over_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Build layers for as many genes as the state dict has, too: they are filled after this module."""
        loaded = state.get("mean")
        if loaded is not None and loaded.shape != self.mean.shape:
            self._build(loaded.shape[0])
        super().take_over_shapes(state)

    def fit(self, expression: Expression) -> Self:
        """Train by Adam with early stopping (see ``Encoder``).

        Raises:
            ConfigurationError: training diverged.
        """
        check_enough(expression, self.latent_dim)
        scale = expression.std(0)
        self.set_buffers(mean=expression.mean(0), scale=torch.where(scale > 0, scale, torch.ones_like(scale)))
        self._build(expression.shape[1])
        generator = Generator().manual_seed(self.seed)
        order = torch.randperm(len(expression), generator=generator)
        n_held = max(1, len(order) // 10)
        standardised = (expression - self.mean) / self.scale
        self._train(standardised[order[n_held:]], standardised[order[:n_held]], generator)
        return self

    def _train(self, cells: Expression, held: Float[Tensor, "held genes"], generator: Generator) -> None:
        self.requires_grad_(True)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        best, best_state, waited = float("inf"), self._weights(), 0
        for _ in range(self.max_epochs):
            self._epoch(cells, optimizer, generator)
            error = self._error(held).item()
            waited = 0 if error < best else waited + 1
            if error < best:
                best, best_state = error, self._weights()
            if waited >= self.patience:
                break
        if best == float("inf"):
            raise ConfigurationError(
                f"the autoencoder's error never was a finite number (learning_rate {self.learning_rate:g}); "
                "lower its learning_rate"
            )
        self.load_state_dict(best_state)
        self.requires_grad_(False)

    def _epoch(self, cells: Expression, optimizer: torch.optim.Optimizer, generator: Generator) -> None:
        order = torch.randperm(len(cells), generator=generator)
        for rows in order.split(self.minibatch_size):
            optimizer.zero_grad()
            with torch.enable_grad():
                self._error(cells[rows]).backward()
            optimizer.step()

    def _error(self, standardised: Expression) -> Tensor:
        return F.mse_loss(self.decoder(self.encoder(standardised)), standardised)

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def encode(self, expression: Expression) -> CellState:
        """The bottleneck's activations."""
        return self.encoder((expression - self.mean) / self.scale)

    def decode(self, state: CellState) -> Expression:
        """The reconstruction, on the scale of log-normalised expression."""
        return self.decoder(state) * self.scale + self.mean


def _stack(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
