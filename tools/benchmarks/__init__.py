"""One file per benchmark; ``tools/benchmark.py`` runs them."""
