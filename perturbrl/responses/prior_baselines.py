"""Response predictors that go by the features of prior knowledge: nearest neighbours and ridge regression.

A combination's features are the sum of its perturbations', each of length 1. How many neighbours, and how strong a
ridge, is found by cross-validation over training perturbations. Where nothing is known of any part, both predict the
mean over training perturbations.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsRegressor

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError
from perturbrl.responses.base import Evidence, EvidenceFor, likened_by
from perturbrl.responses.baselines import Baseline, ShiftOf
from perturbrl.responses.measured_shifts import mean_shift
from perturbrl.responses.training_cells import Condition

NEIGHBOURS: Final = (1, 2, 3, 5, 8, 13, 21, 34)
RIDGES: Final = np.logspace(-3, 4, 15)
MOST_FOLDS: Final = 20
FEWEST: Final = 3
"""Perturbations below which nothing is left to validate on."""

Features = Float[np.ndarray, "labels features"]


class _FromFeatures(Baseline):
    """A regression of shifts on features.

    Args:
        priors: sources of features, which are joined.

    Raises:
        ConfigurationError: there is no source.
    """

    def __init__(self, priors: Sequence[PriorKnowledge]) -> None:
        if not priors:
            raise ConfigurationError(
                f"{self.name} goes by prior knowledge and was given none; give one prior"
            )
        self.priors = tuple(priors)

    def learn(self, context: str) -> ShiftOf:
        """The regression's prediction."""
        known = self.measured.seen_from(context)
        unknown = mean_shift(known)
        features = self._features(list(known))
        told = features.any(axis=1)
        if not told.any():
            return lambda _: unknown
        model = self._regression(features[told], np.stack(list(known.values()))[told])

        def shift(label: Label) -> np.ndarray:
            of_query = self._features([label])
            return np.asarray(model.predict(of_query)).reshape(-1) if of_query.any() else unknown

        return shift

    @abstractmethod
    def _regression(self, features: Features, shifts: Float[np.ndarray, "labels genes"]) -> Any:
        """A fitted regressor."""

    def _features(self, labels: Sequence[Label]) -> Features:
        names = sorted({name for label in labels for name in label.names})
        place = {name: row for row, name in enumerate(names)}
        columns = [place[name] for label in labels for name in label.names]
        ends = np.cumsum([0, *(len(label.names) for label in labels)])
        parts = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(labels), len(names)))
        directions = csr_matrix(hstack([prior.directions(names) for prior in self.priors]))
        return np.asarray((parts @ directions).toarray())

    def _evidence(self, conditions: Sequence[Condition]) -> tuple[Evidence, ...]:
        measured = self.measured.conditions
        return tuple(map(EvidenceFor(measured, likened_by(self.priors, measured)), conditions))


class NearestByPrior(_FromFeatures):
    """Mean shift of the training perturbations whose features are nearest, by cosine."""

    name = "knn_prior"

    def _regression(self, features: Features, shifts: Float[np.ndarray, "labels genes"]) -> Any:
        nearest = KNeighborsRegressor(1, metric="cosine", algorithm="brute")
        n = len(features)
        if n < FEWEST:
            return nearest.fit(features, shifts)
        folds = KFold(min(n, MOST_FOLDS))
        left = n - -(-n // folds.n_splits)
        tried = sorted({min(k, left) for k in NEIGHBOURS} | {left})
        search = GridSearchCV(
            nearest, {"n_neighbors": tried}, cv=folds, scoring="neg_mean_squared_error", error_score="raise"
        )
        return search.fit(features, shifts)


class RidgeOnPrior(_FromFeatures):
    """Ridge regression of shifts on features."""

    name = "ridge_prior"

    def _regression(self, features: Features, shifts: Float[np.ndarray, "labels genes"]) -> Any:
        if len(features) < FEWEST:
            return Ridge(RIDGES[-1]).fit(features, shifts)
        # Without a fold given, each perturbation is left out in turn, in closed form.
        return RidgeCV(RIDGES).fit(features, shifts)
