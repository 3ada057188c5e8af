"""One kernel per stage of the DAG; the source closure of each is part of its stage key."""
