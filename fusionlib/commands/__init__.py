"""The commands of the command line: a module per topic, whose ``add`` gives a parser its commands.

Modules import what a command runs inside the function that runs it, so that the parsers are made
without PyTorch, pandas and NumPy.
"""
