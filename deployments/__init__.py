"""How the flows are deployed; filled by prefect.yaml and its README."""
