"""What each source of prior knowledge was found to be worth, in sentences."""

from collections.abc import Iterator
from typing import Final

from perturbrl.responses.kriging import Kriging

LITTLE: Final = 0.1
"""Share of the variance of effects below which a source is said not to help."""


def prior_notes(model: Kriging) -> tuple[str, ...]:
    """Of a fitted model: the share of each source, and whether another screen foretells anything."""
    return (*(_share(model, prior.source) for prior in model.priors), *_foretold(model))


def _share(model: Kriging, source: str) -> str:
    share = model.weights[source]
    said = ", so it hardly counts" if share < LITTLE else ""
    return f"{source} explains {100 * share:.0f} % of the variance of effects{said}"


def _foretold(model: Kriging) -> Iterator[str]:
    transfer = model.moments.transfer
    if transfer is None:
        return
    source = next(prior.source for prior in model.priors if prior.screen is not None)
    if transfer.scale:
        yield (
            f"what a target does in {source} is expected here times {transfer.scale:.2f}, learned from "
            f"{transfer.in_common} perturbations in common"
        )
    else:
        yield (
            f"what a target does in {source} is not expected here: {transfer.in_common} perturbations in common do not "
            "show that it helps"
        )
