"""Search: finding cases that fail, and making them small."""
