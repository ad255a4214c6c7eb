"""Robust rules: what many devices' updates become, and what is said of each."""
