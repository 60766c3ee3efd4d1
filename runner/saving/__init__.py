"""Run folders, checkpoints, logs, and how a run goes on from them."""
