"""Labels against images."""
