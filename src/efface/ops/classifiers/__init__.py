"""Building blocks of methods for image classifiers: image sets, losses, the anchored problem and its bounds."""
