"""What is thought of conditions together agrees with what is thought of each, and with conditioning by brute force."""

import numpy as np
import pytest
from response_screen import kriging

from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import ONE_CONTEXT


def asked(model: Kriging) -> list[tuple[Label, str]]:
    names = sorted({name for label, _ in model.moments.conditions for name in label.names})
    labels = [Label.parse(name) for name in names] + [Label.parse(f"{names[0]}+{name}") for name in names[1:]]
    return [(label, ONE_CONTEXT) for label in labels]


def test_means_and_variances_are_those_of_each_condition_alone() -> None:
    model = kriging()
    conditions = asked(model)
    found, alone = model.together(conditions), model.predict(conditions)
    assert found.mean == pytest.approx(alone.mean @ found.directions.T, abs=2e-3)
    along = alone.mean / np.linalg.norm(alone.mean, axis=1, keepdims=True)
    variance = np.einsum("jcc->cj", found.covariance)
    inside = np.sqrt((np.square(along @ found.directions.T) * variance).sum(axis=1))
    assert (inside <= alone.along * 1.02).all()
    assert inside == pytest.approx(alone.along, rel=0.25)


def test_covariances_are_symmetric_and_positive() -> None:
    found = kriging().together(asked(kriging()))
    for covariance in found.covariance:
        assert covariance == pytest.approx(covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > -1e-9 * np.abs(covariance).max()


def test_the_order_of_conditions_does_not_matter() -> None:
    model = kriging()
    conditions = asked(model)
    order = np.random.default_rng(0).permutation(len(conditions))
    turned = model.together([conditions[i] for i in order])
    found = model.together(conditions)
    assert turned.mean == pytest.approx(found.mean[order])
    assert turned.covariance == pytest.approx(found.covariance[:, order][:, :, order])


def test_a_weighted_sum_has_the_moments_of_its_draws() -> None:
    found = kriging().together(asked(kriging()))
    weights = np.zeros((1, len(found.mean)))
    weights[0, :3] = (1.0, -1.0, -1.0)
    summed = found.combined(weights)
    assert summed.mean[0] == pytest.approx(found.mean[0] - found.mean[1] - found.mean[2])
    for total, covariance in zip(summed.covariance[:, 0, 0], found.covariance, strict=True):
        rng = np.random.default_rng(0)
        draws = rng.multivariate_normal(np.zeros(len(covariance)), covariance, 50_000, method="eigh")
        assert total == pytest.approx((draws[:, 0] - draws[:, 1] - draws[:, 2]).var(), rel=0.05, abs=1e-12)


def test_more_rows_than_can_be_compared_are_refused() -> None:
    few = Kriging(exact_rows=2)
    few.fit_moments(kriging().moments)
    with pytest.raises(ConfigurationError, match="measured populations are more than the 2"):
        few.together(asked(few))
