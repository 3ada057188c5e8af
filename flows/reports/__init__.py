"""Tables, plots and pages from the records of a grid."""
