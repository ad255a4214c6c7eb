"""What views open: one thing, with its evidence."""
