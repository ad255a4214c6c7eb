"""The shipped tasks, on real data."""
