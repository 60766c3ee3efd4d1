"""The report of a run: what its files say of it, on one page that opens anywhere."""
