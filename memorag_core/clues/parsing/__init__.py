"""Parsing: what a model wrote, in any form and language, into clues, and lines dropped with a reason."""
