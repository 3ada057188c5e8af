"""Running the stages of a DAG: each once, from the cache where it was computed before."""
