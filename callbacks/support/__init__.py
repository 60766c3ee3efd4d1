"""Tools without knowledge of callbacks: ranks, copies to the host, generators, files."""
