"""Memory: the memory models, each in a folder of its own, and what several of them stand on.

In: documents, then requests. Out: an immutable memory, then replies. Knows no clue and no index.

``beacon``, ``longcontext``, ``hosted`` and ``gist`` are the kinds of memory model, ``bundled`` is the model
that ships with the package, ``grounding`` holds replies to the text, and ``planning`` says beforehand what a
memory takes.
"""
