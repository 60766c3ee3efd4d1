"""What every callback is built on: when it runs, what it reads of the runner, what it shares."""
