"""Secure aggregation: the coordinator learns the sum of the devices' updates, and no single one of them."""
