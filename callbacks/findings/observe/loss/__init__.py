"""What a loss does to what it is given, seen at work."""
