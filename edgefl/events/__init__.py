"""The typed events of a federation and the journal that keeps them."""
