"""How designs and predictors are called in sentences and tables; files keep the short names."""

from typing import Final

_PLAIN: Final = {
    "policy": "trained policy",
    "no_op": "doing nothing",
    "random": "random dosing",
    "nearest_perturbation": "nearest single perturbation",
    "greedy": "greedy one-step search",
    "nnls": "non-negative least squares",
    "optimum": "closed-form optimum",
    "cem": "cross-entropy search",
    "mpc": "model-predictive control",
    "exhaustive": "exhaustive search",
    "beam": "beam search",
    "pairs": "search of singles and pairs",
    "most_likely": "most probable set",
    "differential_expression": "differential expression",
    "corrected_kriging": "kriging with the policy",
    "training_mean": "training mean",
    "cell_type_mean": "cell-type mean",
    "nearest_context": "nearest cell type",
    "additive": "additive effects",
    "matching_mean": "matching mean",
    "bilinear_ridge": "bilinear ridge",
    "knn_prior": "nearest by prior knowledge",
    "ridge_prior": "ridge on prior knowledge",
    "same_target": "same target elsewhere",
    "same_target_scaled": "same target elsewhere, scaled",
    "split_half_replicate": "split-half replicate",
    "twin": "twin, target as named",
}


def plain_name(name: str) -> str:
    """The words for a row's short name; a name of the user's own stays."""
    if name.startswith("lookahead_"):
        return f"{name.removeprefix('lookahead_')}-step lookahead"
    return _PLAIN.get(name, name)
