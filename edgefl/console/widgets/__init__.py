"""What views are made of: header, tab bar, grid, plot, filter line."""
