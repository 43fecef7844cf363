"""Runs the command line: ``python -m efface``."""

from efface.cli import main

main()
