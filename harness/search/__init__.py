"""The search: it finds failing cases and shrinks them."""
