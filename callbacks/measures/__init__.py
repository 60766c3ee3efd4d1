"""Measures of diagnostics: what is counted, in pure torch, with no Catalyst, no TensorBoard and no rank."""
