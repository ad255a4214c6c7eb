"""The use cases, each an async generator of typed progress."""
