"""Processes and their end: launching, signals, exit codes, and agreement among ranks."""
