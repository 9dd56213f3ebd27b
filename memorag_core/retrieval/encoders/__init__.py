"""Encoders: embedders, token weights and re-rankers of other libraries, in one shape."""
