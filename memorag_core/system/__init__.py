"""What all parts need of the machine: folders that last, locks that nothing leaves held, progress, logs.

In: paths, functions. Out: absolute paths, made folders, held locks. Knows nothing of what lies or runs there.
"""
