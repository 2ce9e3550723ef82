"""A small simulated screen: 20 perturbations with a strong effect in common and a weaker one of their own."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ToyScreen:
    """Log-normalised cells by label, from the same law in every draw."""

    seed: int = 0
    n_genes: int = 300
    n_perturbations: int = 20

    @property
    def genes(self):
        return [f"G{i}" for i in range(self.n_genes)]

    @property
    def perturbations(self):
        return [f"G{i}" for i in range(self.n_perturbations)]

    def log_effects(self):
        rng = np.random.default_rng(self.seed)
        common = rng.normal(0, 0.7, self.n_genes) * (rng.random(self.n_genes) < 0.5)
        own = rng.normal(0, 0.4, (self.n_perturbations, self.n_genes))
        return common + own * (rng.random(own.shape) < 0.2)

    def rates(self):
        base = np.random.default_rng(self.seed + 1).lognormal(1.5, 0.8, self.n_genes)
        return dict(zip(self.perturbations, base * np.exp(self.log_effects()), strict=True)) | {
            "control": base
        }

    def counts(self, label, n_cells, draw_seed):
        rng = np.random.default_rng([draw_seed, *label.encode()])
        spread = rng.gamma(8.0, 1 / 8.0, (n_cells, self.n_genes))
        return rng.poisson(self.rates()[label] * spread).astype(np.float32)

    def cells(self, label, n_cells=100, draw_seed=0):
        counts = self.counts(label, n_cells, draw_seed)
        return np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
