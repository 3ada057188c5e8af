"""Whether two configurations differ, over seeds and rows."""
