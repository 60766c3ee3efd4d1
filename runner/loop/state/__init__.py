"""The state of a run: what a checkpoint holds of it, and what must not change when it goes on."""
