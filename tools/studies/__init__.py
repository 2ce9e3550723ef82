"""One file per study; ``tools/study.py`` runs them."""
