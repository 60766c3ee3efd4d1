"""How a run is observed without leaving a trace in it."""
