"""The method as flows, the recipes, and the `rosita` command line."""
