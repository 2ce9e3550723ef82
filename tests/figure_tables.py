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


def effects(n):
    """Queries of all kinds of evidence, as many of each as there are."""
    kinds = ("measured", "combined", "transferred", "prior", "none")
    effect = np.abs(normal(n, seed=6)) * np.where(np.arange(n) % 5 == 4, 0.1, 2.0)
    return pd.DataFrame(
        {
            "query": [f"{name}@CD14+ Monocytes" if i % 7 == 3 else name for i, name in enumerate(names(n))],
            "evidence": [kinds[i % 5] for i in range(n)],
            "effect": effect,
            "low": effect - 0.2 - 0.3 * (np.arange(n) % 5),
            "high": effect + 0.2 + 0.3 * (np.arange(n) % 5),
        }
    )


def shifts(n, n_genes=200):
    """Queries x genes of a few programs, and their standard deviations."""
    values = normal(n, 3, seed=7) @ normal(3, n_genes, seed=8) * 0.3
    index = pd.Index(effects(n)["query"], name="query")
    genes = [f"MT-GENE{i}" for i in range(n_genes)]
    delta = pd.DataFrame(values, index, genes)
    return delta, pd.DataFrame(0.1 + 0.2 * np.abs(normal(n, n_genes, seed=9)), index, genes)


def judged_genes(n, n_genes=300):
    tables = [
        pd.DataFrame(
            {
                "condition": query,
                "gene": names(n_genes),
                "predicted": normal(n_genes, seed=i),
                "measured": normal(n_genes, seed=i) + 0.4 * normal(n_genes, seed=i + 99),
            }
        )
        for i, query in enumerate(effects(n)["query"])
    ]
    return pd.concat(tables, ignore_index=True)


def coverage(below=0.0):
    level = np.array([0.5, 0.8, 0.9, 0.95])
    return pd.DataFrame(
        {"level": level, "covered": level - below, "low": level - below - 0.05, "high": level - below + 0.04}
    )
