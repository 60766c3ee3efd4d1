"""The name and writer of the table that ``assay predict`` writes."""

from assay.callbacks.samples.csv_table import Table, cell, write_table

__all__ = ["TABLE", "Table", "cell", "write_table"]

TABLE = "predictions.csv"
