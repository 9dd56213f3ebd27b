"""Generation: evidence and question into the answer, its citations, and the report of what happened."""
