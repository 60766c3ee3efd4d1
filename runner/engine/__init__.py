"""Device, precision and processes: Catalyst's engine on today's accelerate."""
