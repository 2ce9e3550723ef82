"""What each source of prior knowledge was found to be worth, in sentences."""

from collections.abc import Iterator

from perturbrl.responses.kriging import LITTLE, WORTH, Kriging


def prior_notes(model: Kriging) -> tuple[str, ...]:
    """Of a fitted model: the share of each source, what the data say of it, and whether another screen foretells."""
    return (*(_share(model, prior.source) for prior in model.priors), *_foretold(model))


def _share(model: Kriging, source: str) -> str:
    share, gain = model.weights[source], model.gain_of(source)
    if share < LITTLE:
        said = "so it hardly counts"
    elif abs(gain) < WORTH:
        said = "and the measured perturbations do not tell whether it helps"
    else:
        said = f"and the measured perturbations speak {'for' if gain > 0 else 'against'} it"
    return (
        f"{source} explains {100 * share:.0f} % of the variance of effects, {said} (log evidence {gain:+.1f})"
    )


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
