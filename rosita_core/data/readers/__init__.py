"""One file per kind of source that rows are read from."""
