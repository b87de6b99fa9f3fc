"""Reports: the only code that formats for people and for machines."""
