"""The checks that every other test relies on do refuse what they should."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest
import shape_checker
from jaxtyping import Float, TypeCheckError

from perturbrl.responses.sampling_noise import SamplingNoise

checked = shape_checker.jaxtyped(typechecker=None)


@checked
def padded(x: Float[np.ndarray, "a b"], n: int) -> Float[np.ndarray, "{n} b"] | None:
    return np.pad(x, ((0, 1), (0, 0)))


@checked
def turned(x: Float[np.ndarray, "a b"], y: Float[np.ndarray, " b"], axis: int = 0) -> Float[np.ndarray, " a"]:
    return x.sum(axis=axis)


@checked
@dataclass(frozen=True)
class Pair:
    left: Float[np.ndarray, " n"]
    right: Float[np.ndarray, " n"]

    @checked
    def times(self, factor: float) -> Self:
        return self

    @checked
    def name(self) -> str:
        return 3

    @classmethod
    @checked
    def twice(cls, value: Any) -> "Pair":
        return cls(value, value)


THREE, FOUR = np.ones(3), np.ones(4)


def test_what_fits_passes():
    turned(np.ones((3, 3)), THREE)
    padded(np.ones((3, 2)), n=4)
    assert Pair.twice(THREE).times(2).left is THREE


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: turned(THREE, THREE, 0),
        lambda: turned(np.ones((4, 3)), FOUR),
        lambda: turned(np.ones((4, 3)), THREE),
        lambda: turned(np.ones((4, 3), dtype=int), THREE, 1),
        lambda: turned(np.ones((3, 3)), THREE, "0"),
        lambda: padded(np.ones((3, 2)), n=5),
        lambda: Pair(THREE, FOUR),
        lambda: Pair.twice([1.0]),
        lambda: Pair(THREE, THREE).times("2"),
        lambda: Pair(THREE, THREE).name(),
    ],
    ids=[
        *("axes", "two parameters", "what comes back", "numbers", "no shape", "an argument's size"),
        *("fields", "through a classmethod", "a method", "what a method gives back"),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(TypeCheckError):
        wrong()


def test_functions_and_dataclasses_of_the_package_are_checked():
    two, three = np.array([1, 2]), np.array([1, 2, 3])
    with pytest.raises(TypeCheckError):
        SamplingNoise(two, three, two)
    with pytest.raises(TypeCheckError):
        SamplingNoise(two, two, two).whiten(np.ones(2))
