"""The stages of a run, one file each: what they read and write in its folder."""
