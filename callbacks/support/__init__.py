"""Tools that know no callback: ranks, copies to the host, random states, files, views of a runner."""
