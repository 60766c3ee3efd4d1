"""The recipe of a training: losses, optimizers, schedules, weight average, and the metric to monitor."""
