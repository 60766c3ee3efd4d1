"""The search of ``assay train EXP --tune``: what is searched, its trials, each in a process of its own, and its report.

Optuna chooses the values, stops trials that are worse than the median, and keeps what is known of them.
"""
