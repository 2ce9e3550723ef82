"""Invented tables for figures, from one perturbation to five hundred."""

import numpy as np
import pandas as pd

from perturbrl.rl.outcomes import TrustRegionOutcome
from perturbrl.training.iteration import outcome_column


def normal(*shape, seed=0):
    """The same numbers in whatever order the tests run."""
    return np.random.default_rng(seed).normal(size=shape)


def names(n):
    return [f"LONGGENE{i}-AS1" if i % 5 == 0 else f"G{i}" for i in range(n)]


def hits(n, n_used):
    dose = np.r_[np.linspace(1, 0.1, n_used) * np.where(np.arange(n_used) % 3, 1, -1), np.zeros(n - n_used)]
    return pd.DataFrame(
        {
            "perturbation": names(n),
            "dose": dose,
            "low": dose - 0.05,
            "high": dose + 0.05,
            "share_of_cells": (dose != 0) * 1.0,
        }
    )


def designs(*more):
    return pd.DataFrame(
        {
            "name": ["policy", "no_op", "optimum", *more],
            "distance": [0.5, 3.0, 0.4, *(1.0 for _ in more)],
            "low": [0.2, 2.5, 0.0, *(0.9 for _ in more)],
            "high": [0.9, 3.4, 0.8, *(1.2 for _ in more)],
        }
    )


def schedule(steps, n, n_used, lowest=0.0):
    doses = np.zeros((steps, n))
    doses[:, :n_used] = np.clip(0.6 + 0.5 * normal(steps, n_used), lowest, 1.0)
    return doses


def cells(n=40, shift=0.0, latent=6):
    return normal(n, latent, seed=n) + shift


def paths(start, shift, steps):
    share = np.linspace(0, 1, steps + 1)[None, :, None]
    return start[:, None] + share * shift


def learning(n=30):
    return pd.DataFrame(
        {
            "epoch": np.arange(n),
            "return": normal(n, seed=1),
            "trust_region/kl": np.abs(normal(n, seed=2)),
            "ppo/kl": np.abs(normal(n, seed=3)),
            "ppo/kl_coef": 10.0 ** normal(n, seed=4),
            **{outcome_column(o): (np.arange(n) % 6 == k) * 1.0 for k, o in enumerate(TrustRegionOutcome)},
        }
    )


def warm_start(n=30):
    first = np.arange(n) < 10
    table = learning(n)
    return table.assign(
        **{
            "trust_region/kl": table["trust_region/kl"].where(first),
            **{outcome_column(o): table[outcome_column(o)].where(first) for o in TrustRegionOutcome},
            "ppo/kl": table["ppo/kl"].where(~first),
            "ppo/kl_coef": table["ppo/kl_coef"].where(~first),
        }
    )


def top_genes(n=20, n_sure=5):
    observed = normal(n, seed=5)
    return pd.DataFrame(
        {
            "gene": names(n),
            "observed": observed,
            "low": observed - 0.4,
            "high": observed + 0.4,
            "predicted": 0.8 * observed,
            "fdr": np.where(np.arange(n) < n_sure, 0.001, 0.5),
        }
    )
