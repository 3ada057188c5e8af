"""What MLflow has yet to be told, kept on disk until it answers."""
