"""The store: the only room that writes files for its users, and that runs the scripts it wrote."""
