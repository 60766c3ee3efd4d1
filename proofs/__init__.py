"""Proofs that take minutes: what a test cannot show, run by ``make proofs``."""
