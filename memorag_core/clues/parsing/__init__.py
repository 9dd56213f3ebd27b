"""Parsing: what a model wrote, in any form and language, into clues and dropped lines, each with its reason."""
