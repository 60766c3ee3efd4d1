"""Settings of the optimization that cannot work, told before the first step."""
