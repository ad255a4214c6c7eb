"""edgefl: private, Byzantine-robust federated training on a fleet of edge devices, with one command."""

__version__ = "0.1.0"
