"""A number measured for unordered pairs, as factors of their members: what the other partners of both foretell.

y_ab = c·h_ab + m_a + m_b + Σ_k s_k z_ak z_bk + noise, with half of the signs s_k negative. Terms h are known of every
pair; each member's main effect m and factors z vary around what features of members foretell (βᵀx_a). All weights and
variances are drawn from their posterior by Gibbs sampling in several chains side by side, which start apart: a pair is
uncertain where chains or draws disagree.

Source: Salakhutdinov and Mnih 2008 (Bayesian probabilistic matrix factorisation); Simm 2017
(10.1109/MLSP.2017.8168143, side information).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

N_FACTORS: Final = 10
N_CHAINS: Final = 12
# Of weights of the known terms, standardised: next to no information.
_VAGUE: Final = 1e-2
_LARGEST_SHRINKAGE: Final = 1e5

Pairs = Int[np.ndarray, "pairs 2"]
Terms = Float[np.ndarray, "pairs terms"]
Members = Float[np.ndarray, "chains members columns"]


@dataclass(frozen=True, eq=False)
class PairDraws:
    """Draws from the posterior, in the units of what was measured.

    Attributes:
        members: ``[draws, members, factors + 1]`` factors and, last, the main effect.
        signs: of the factors.
        weights: ``[draws, terms]`` of the known terms.
        noise_sd: ``[draws]`` standard deviation of one measurement.
        origin: added to every pair.
        scale: of one unit of ``members`` and ``weights``.
    """

    members: Float[np.ndarray, "draws members columns"]
    signs: Float[np.ndarray, " factors"]
    weights: Float[np.ndarray, "draws terms"]
    noise_sd: Float[np.ndarray, " draws"]
    origin: float
    scale: float

    def of(self, pairs: Pairs, terms: Terms) -> Float[np.ndarray, "draws pairs"]:
        """What each draw expects of pairs."""
        found = self.weights @ terms.T + _of_members(self.members, self.signs, pairs)
        return self.origin + self.scale * found


class PairFactors:
    """The sampler, which goes on from where it was when more pairs have been measured.

    Args:
        features: ``[members, features]`` what may foretell factors, in units of about 1.
        n_factors: half of them with a negative sign.
        n_chains: side by side.
        seed: of all draws.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "members features"],
        n_factors: int = N_FACTORS,
        n_chains: int = N_CHAINS,
        seed: int = 0,
    ) -> None:
        self._features, self._n_chains = features, n_chains
        self._signs = np.where(np.arange(n_factors) % 2 == 0, 1.0, -1.0)
        self._rng = np.random.default_rng(seed)
        n_members, n_features = features.shape
        self._members = np.zeros((n_chains, n_members, n_factors + 1))
        self._members[:, :, :-1] = 0.3 * self._rng.normal(size=(n_chains, n_members, n_factors))
        self._link = np.zeros((n_chains, n_features, n_factors + 1))
        self._shrinkage = np.full((n_chains, n_factors + 1), float(n_features))
        self._precision = np.full((n_chains, n_factors + 1), 5.0)
        self._noise = np.full(n_chains, 0.5)
        self._scale = 0.0

    def learn(
        self,
        pairs: Pairs,
        terms: Terms,
        values: Float[np.ndarray, " pairs"],
        sweeps: int,
        kept: int,
        thin: int = 1,
    ) -> PairDraws:
        """Draw from the posterior of all that was measured.

        Args:
            pairs: numbers of their members.
            terms: known of each pair; the first is 1 everywhere, the others are standardised.
            values: what was measured.
            sweeps: over all unknowns.
            kept: of the last sweeps.
            thin: one in so many of the kept sweeps is a draw of each chain.
        """
        origin = float(values.mean())
        if not self._scale:
            fit = np.linalg.lstsq(terms, values - origin, rcond=None)[0]
            self._weights = np.zeros((self._n_chains, terms.shape[1]))
            self._scale = float(np.std(values - origin - terms @ fit)) or 1.0
        measured = _Measured.of(pairs, terms, (values - origin) / self._scale, self._features.shape[0])
        draws = []
        for sweep in range(sweeps):
            self._sweep(measured)
            last = sweeps - 1 - sweep
            if last < kept and last % thin == 0:
                draws.append((self._members.copy(), self._weights.copy(), np.sqrt(self._noise)))
        members, weights, noise_sd = (np.concatenate(parts) for parts in zip(*draws, strict=True))
        return PairDraws(members, self._signs, weights, self._scale * noise_sd, origin, self._scale)

    def _sweep(self, measured: "_Measured") -> None:
        of_members = _of_members(self._members, self._signs, measured.pairs)
        self._draw_weights(measured, measured.values - of_members)
        self._draw_members(measured, measured.values - self._weights @ measured.terms.T)
        self._draw_link()
        expected = self._weights @ measured.terms.T + _of_members(self._members, self._signs, measured.pairs)
        left = np.square(measured.values - expected).sum(axis=1)
        self._noise = 1.0 / self._rng.gamma(1.0 + len(measured.values) / 2, 1.0 / (0.05 + 0.5 * left))

    def _draw_weights(self, measured: "_Measured", left: Float[np.ndarray, "chains pairs"]) -> None:
        precise = measured.terms.T @ measured.terms / self._noise[:, None, None]
        precise += _VAGUE * np.eye(precise.shape[1])
        pull = left @ measured.terms / self._noise[:, None]
        self._weights = _gaussian(precise, pull, self._rng.normal(size=pull.shape))

    def _draw_members(self, measured: "_Measured", left: Float[np.ndarray, "chains pairs"]) -> None:
        """Each member in turn, given its partners: a regression on their factors."""
        members, width = self._members, self._members.shape[2]
        foretold = np.einsum("gp,cpk->gck", self._features, self._link) * self._precision
        chance = self._rng.normal(size=foretold.shape)
        seen = np.concatenate([members[:, :, :-1] * self._signs, np.ones_like(members[:, :, :1])], axis=2)
        along = np.arange(width)
        for one, (partners, rows) in enumerate(zip(measured.partners, measured.rows, strict=True)):
            design = seen[:, partners]
            turned = design.transpose(0, 2, 1)
            aim = (left[:, rows] - members[:, partners, -1])[:, :, None]
            precise = turned @ design / self._noise[:, None, None]
            precise[:, along, along] += self._precision
            pull = (turned @ aim)[:, :, 0] / self._noise[:, None] + foretold[one]
            members[:, one] = _gaussian(precise, pull, chance[one])
            seen[:, one, :-1] = members[:, one, :-1] * self._signs

    def _draw_link(self) -> None:
        """How features foretell factors, how much is left over, and how far links are shrunk."""
        features, members = self._features, self._members
        n_members, n_features = features.shape
        precise = (features.T @ features)[None, None] + self._shrinkage[:, :, None, None] * np.eye(n_features)
        pull = np.einsum("gp,cgk->ckp", features, members)
        chance = self._rng.normal(size=pull.shape) / np.sqrt(self._precision)[:, :, None]
        self._link = _gaussian(precise, pull, chance).transpose(0, 2, 1)
        left = np.square(members - np.einsum("gp,cpk->cgk", features, self._link)).sum(axis=1)
        size = np.square(self._link).sum(axis=1)
        shrinkage = self._rng.gamma(
            1.0 + n_features / 2, 1.0 / (1.0 / n_features + 0.5 * self._precision * size)
        )
        self._shrinkage = shrinkage.clip(1.0, _LARGEST_SHRINKAGE)
        rate = 0.1 + 0.5 * (left + self._shrinkage * size)
        self._precision = self._rng.gamma(1.0 + (n_members + n_features) / 2, 1.0 / rate)


@dataclass(frozen=True, eq=False)
class _Measured:
    """Measured pairs, and of each member its partners and the rows in which they stand."""

    pairs: Pairs
    terms: Terms
    values: Float[np.ndarray, " pairs"]
    partners: tuple[Int[np.ndarray, " partners"], ...]
    rows: tuple[Int[np.ndarray, " partners"], ...]

    @classmethod
    def of(
        cls, pairs: Pairs, terms: Terms, values: Float[np.ndarray, " pairs"], n_members: int
    ) -> "_Measured":
        ends, others = pairs.T.ravel(), pairs[:, ::-1].T.ravel()
        rows = np.tile(np.arange(len(pairs)), 2)
        order = np.argsort(ends, kind="stable")
        cuts = np.cumsum(np.bincount(ends, minlength=n_members))[:-1]
        partners, places = np.split(others[order], cuts), np.split(rows[order], cuts)
        return cls(pairs, terms, values, tuple(partners), tuple(places))


def _of_members(
    members: Members, signs: Float[np.ndarray, " factors"], pairs: Pairs
) -> Float[np.ndarray, "chains pairs"]:
    left, right = members[:, pairs[:, 0]], members[:, pairs[:, 1]]
    return (
        np.einsum("cpk,k,cpk->cp", left[:, :, :-1], signs, right[:, :, :-1])
        + left[:, :, -1]
        + right[:, :, -1]
    )


def _gaussian(
    precision: Float[np.ndarray, "*batch k k"],
    pull: Float[np.ndarray, "*batch k"],
    chance: Float[np.ndarray, "*batch k"],
) -> Float[np.ndarray, "*batch k"]:
    """Draws with mean P⁻¹ b and covariance P⁻¹, from standard normal numbers."""
    root = np.linalg.inv(np.linalg.cholesky(precision))
    turned = root @ pull[..., None] + chance[..., None]
    return (np.swapaxes(root, -1, -2) @ turned)[..., 0]
