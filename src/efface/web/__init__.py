"""A local page that shows images of prompts before and after erasures; needs ``pip install 'efface[web]'``."""
