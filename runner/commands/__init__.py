"""The commands of the command line, and the flags of an experiment."""
