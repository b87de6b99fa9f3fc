"""The HTML report: what it says, as data; its charts; its page."""
