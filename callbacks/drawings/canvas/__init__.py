"""What drawings are made of: grids, charts, sheets of cells, text, and the theme."""
