"""What a checkpoint says of the data: what was learned of the cells, and which cells it was learned from."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightning.pytorch.utilities import rank_zero_info

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.split import Split
from perturbrl.embeddings.base import Encoder
from perturbrl.errors import CheckpointError, DataError

PRIOR_FILES: Final = ("gene_sets", "edges", "features", "reference", "aliases")


def learned_data(
    split: Split, preprocessor: Preprocessor, encoder: Encoder, priors: Sequence[PriorKnowledge]
) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "preprocessor": preprocessor.state_dict(),
        "encoder": {
            "class": type(encoder).__qualname__,
            "latent_dim": encoder.latent_dim,
            "state": dict(encoder.state_dict()),
        },
        "split": split.to_dict(),
        "priors": [prior.source for prior in priors],
    }


def restore_encoder(encoder: Encoder, saved: Mapping[str, Any]) -> None:
    """Let ``encoder`` take over what was learned.

    Raises:
        CheckpointError: it is another encoder than the one that learned it.
    """
    encoder.latent_dim = saved["latent_dim"]
    try:
        encoder.load_state_dict(saved["state"])
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's encoder is {saved['class']} of {saved['latent_dim']} dimensions, and "
            f"{type(encoder).__qualname__} as configured cannot take it over; use the configuration the "
            "checkpoint was made with"
        ) from error


def split_of_cells(
    saved: dict[str, Any], dataset: PerturbationDataset, path: str | None, *, may_be_new: bool
) -> Split | None:
    """The split that ``saved`` names the cells of; ``None`` where the loaded cells are new to it and may be.

    Args:
        saved: a split's plain values.
        dataset: the cells that are loaded.
        path: where they were read.
        may_be_new: whether other cells may be loaded than the split's.

    Raises:
        CheckpointError: some of the split's cells are not loaded and should be.
    """
    try:
        return Split.from_dict(saved, dataset)
    except DataError as error:
        if may_be_new:
            return None
        raise CheckpointError(
            f"the checkpoint was trained on other cells than '{path}' holds ({error}); "
            "give the same file, or use predict for new cells"
        ) from error


def require_same_start(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose data were prepared otherwise: the twin has learned from these already.

    Args:
        then: ``learned_data`` of the run and how it orders cells, with the split's cells in the order in which
            they are loaded now.
        now: the same as configured.

    Raises:
        CheckpointError: other cells are held out, other genes are kept, cells are ordered otherwise, or other files
            of prior knowledge read.
    """
    other = {
        "holds other cells out (data.split, goal_fraction, reference_fraction)": then["split"]
        != now["split"],
        "keeps other genes (data.n_top_genes)": then["preprocessor"]["genes"] != now["preprocessor"]["genes"],
        "orders its cells otherwise (data.time_key, pseudotime_key, root)": then["ordering"]
        != now["ordering"],
        f"has other prior knowledge (data.{', '.join(PRIOR_FILES)})": then["priors"] != now["priors"],
    }
    for what in (what for what, differs in other.items() if differs):
        raise CheckpointError(
            f"the checkpoint's run {what} than the configuration; use the options that it was made with, or "
            "fit without --ckpt_path"
        )


def say_unheeded(given: Mapping[str, object], trained: Mapping[str, object]) -> None:
    """Say which options of a test or a prediction are not heeded, because they belong to what was trained.

    Args:
        given: value by option; ``None`` where none was given.
        trained: the same of the checkpoint's run.
    """
    for option, value in given.items():
        if value is not None and value != trained[option]:
            was = "none" if trained[option] is None else f"'{trained[option]}'"
            rank_zero_info(
                f"{option} '{value}' is not heeded: the checkpoint was trained with {was}, which holds here, too; fit "
                "again for another."
            )
