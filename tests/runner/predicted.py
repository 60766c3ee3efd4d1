"""What ``assay predict`` has written."""

import csv


def read_table(path="out/predictions.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
