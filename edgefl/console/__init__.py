"""The operator console: one Textual app on the monitor's stream of events."""
