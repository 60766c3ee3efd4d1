"""What is wrong: rules that turn what was observed of a run into findings, before and while it trains."""
