"""Load: many users at once, in threads, processes or tasks."""
