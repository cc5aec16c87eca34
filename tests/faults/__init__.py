"""A job that harms commands at random and looks at what comes of it; see `__main__`."""
