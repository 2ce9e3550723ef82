"""Whether a module goes with the cells it is run on, and a checkpoint with the configuration it is loaded into."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor, nn

from perturbrl.errors import CheckpointError, ConfigurationError
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.saved_data import say_unheeded
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace

CHECKPOINT_KEY = "perturbrl"


def description_in(checkpoint: Mapping[str, Any], *, own_env: bool) -> dict[str, Any]:
    """What a module wrote into its checkpoint beside the tensors.

    Args:
        checkpoint: its content.
        own_env: whether ``model.env`` takes the place of twin and task.

    Raises:
        CheckpointError: no module of ours wrote it, or one with ``model.env`` where there is none now, or without.
    """
    if CHECKPOINT_KEY not in checkpoint:
        raise CheckpointError(
            f"the checkpoint has no '{CHECKPOINT_KEY}' entry, so perturbrl did not write it; give one of a "
            "perturbrl run"
        )
    description: dict[str, Any] = checkpoint[CHECKPOINT_KEY]
    if own_env == ("twin" in description):
        was, now = ("a twin", "model.env") if own_env else ("model.env", "a twin")
        raise CheckpointError(
            f"the checkpoint was made with {was} and the configuration has {now}; use the configuration that it "
            "was made with"
        )
    return description


def require_widths(trained: int, now: int) -> None:
    """Refuse to show a policy something else than it was trained to see.

    Raises:
        CheckpointError: the two differ.
    """
    if trained != now:
        raise CheckpointError(
            f"the checkpoint's policy sees {trained} numbers of a cell and would be shown {now}; give the horizon, "
            "the limit on perturbations, the prices and the cell states that it was trained with"
        )


def require_networks(saved: Mapping[str, Tensor], module: nn.Module) -> None:
    """Refuse weights of an actor or a critic that are not built like those of ``module``.

    Raises:
        CheckpointError: a tensor's name or shape differs.
    """
    if _shapes(saved) != _shapes(module.state_dict()):
        raise CheckpointError(
            "the checkpoint has other networks than the configuration; give the hidden_sizes and the "
            "normalise_observations of model.policy that it was made with"
        )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(value.shape) for name, value in tensors.items() if name.startswith(("actor.", "critic."))
    }


def require_same_design(
    description: Mapping[str, Any], source: str, target: str | None, perturbations: Sequence[str]
) -> None:
    """Refuse to go on with a run whose source, target or perturbations are not those of the configuration.

    Args:
        description: of the run, in its checkpoint.
        source: where cells start, as configured.
        target: where they should go.
        perturbations: what may be dosed.

    Raises:
        CheckpointError: one differs.
    """
    configured: dict[str, Sequence[str | None]] = {
        "source": [source],
        "target": [target],
        "perturbations": perturbations,
    }
    for what, names in configured.items():
        pairs = zip_longest(description[what], (str(name) for name in names), fillvalue="nothing")
        for then, now in ((then, now) for then, now in pairs if then != now):
            raise CheckpointError(
                f"the checkpoint's run has {what} '{then}' where the configuration has '{now}'; use the one that it "
                "was made with, or fit without --ckpt_path"
            )


def say_unheeded_limits(
    data: PerturbationDataModule, twin: DigitalTwin, trained: PerturbationSpace, *, some_chosen: bool
) -> None:
    """Say which limits on doses are not heeded in a test or a prediction (see ``say_unheeded``).

    Args:
        data: with the limits as configured.
        twin: restored, with all that could be dosed.
        trained: what could be dosed when the policy was trained.
        some_chosen: whether that was chosen from what was allowed, so that more may have been.

    Raises:
        ConfigurationError: an allowed perturbation is none.
    """
    asked = data.restrict(twin) if data.allowed_perturbations else None
    if some_chosen and asked is not None and set(trained.names) <= set(asked.names):
        asked = None
    given = {
        "data.allowed_perturbations": asked and ", ".join(sorted(asked.names)),
        "data.max_perturbations": data.max_perturbations,
        "data.min_dose": data.min_dose,
    }
    used = ", ".join(sorted(trained.names)), trained.max_perturbations, trained.min_dose
    say_unheeded(given, dict(zip(given, used, strict=True)))


def require_own_cells(
    own: PerturbationDataModule | None, given: PerturbationDataModule, *, to_train: bool
) -> None:
    """Refuse to run a module on other cells than those that it was fitted to.

    Args:
        own: what the module was fitted to or restored beside.
        given: what it is to be run on.
        to_train: whether it is to be trained, and not judged.

    Raises:
        ConfigurationError: the two are not the same object.
    """
    if own is None or own is given:
        return
    trained = "trained" if own.target is None else f"trained towards '{own.target}'"
    if to_train:
        raise ConfigurationError(
            f"this TwoStageModule was {trained} on other cells; make a new one for every design"
        )
    raise ConfigurationError(
        f"this TwoStageModule was {trained} on other cells; give it the data module it was trained with, or a "
        "checkpoint as ckpt_path"
    )
