"""The coordinator's service over the journal, and its client."""
