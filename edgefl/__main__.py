"""`python -m edgefl`."""

from edgefl.cli.main import main

main()
