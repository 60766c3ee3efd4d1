"""Building blocks of drawings: grids, charts, sheets of cells, text, and the theme."""
