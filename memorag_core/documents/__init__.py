"""Documents: what the user gives, cut into chunks with character offsets.

In: texts, documents, how to cut them. Out: checked documents, their chunks, their language. Knows no memory.
"""
