"""Drawings of diagnostics: functions from host arrays to an RGB picture, one module per diagnostic."""
