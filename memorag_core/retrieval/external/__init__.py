"""The user's own retriever beneath the clues, searched with the question and with every clue."""
