"""Real Debian hosts in namespaces of this machine."""
