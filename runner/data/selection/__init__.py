"""Which items train and which validate, and how often each is drawn."""
