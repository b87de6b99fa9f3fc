"""The store: the findings and the documents that a user keeps are written here, and scripts are run here."""
