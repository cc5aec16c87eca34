"""What `import harness` offers: one file a function, thin over the pipeline. Prints nothing on
standard output, installs no signal handler; progress goes to standard error, as a command's does.
"""
