"""``python -m efface``."""

from .cli import main

main()
