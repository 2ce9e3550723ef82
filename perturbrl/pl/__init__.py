"""Figures, each usable on its own."""
