"""How the flows are deployed."""
