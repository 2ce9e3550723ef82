"""Designs without learning: searches on the twin and closed forms."""
