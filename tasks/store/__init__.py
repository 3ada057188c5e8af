"""Artifacts by their digest, and the files that machines share."""
