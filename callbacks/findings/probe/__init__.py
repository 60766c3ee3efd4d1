"""What was observed of a run, in plain values: what rules read."""
