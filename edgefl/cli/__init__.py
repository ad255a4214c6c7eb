"""The command line: one file per command; parses, calls an operation, prints."""
