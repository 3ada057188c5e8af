"""One Prefect task per stage."""
