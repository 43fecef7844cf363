"""Building blocks of ELIDE: state loss, pseudo-words, domain words."""
