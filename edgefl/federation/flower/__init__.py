"""Flower's services under edgefl: launchers, the warm executor, and the one module that knows Flower's insides."""
