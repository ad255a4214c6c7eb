"""What a device uploads, made small: sparsified or quantised, packed, and what is left out remembered for the next round."""
