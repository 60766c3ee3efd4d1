"""Small real trainings: healthy ones, and ones with a planted fault each."""
