"""Differential privacy on the device: noise, accounting, and the ledger that keeps the budget."""
