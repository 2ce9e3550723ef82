"""Encoders between expression and cell states."""
