"""The metric families of /metrics, a module for each question that an operator asks. Each is a function of the status."""
