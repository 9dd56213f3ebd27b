"""The operating system, as all parts need it: paths and folders that last, locks that nothing leaves held.

In: paths, functions. Out: absolute paths, made folders, held locks. Knows nothing of what lies or runs there.
"""
