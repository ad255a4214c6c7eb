"""Terraform: which engine, driving it, and the hosts that it made."""
