"""The values that training begins with."""
