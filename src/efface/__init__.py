"""efface erases a concept from a generative model and proves that it is gone.

    >>> import efface
    >>> model = efface.load_model("pocket")
    >>> images = model.sample(["a photo of a cat in the snow"], seeds=[1])

Public names are declared in ``__init__.pyi`` and loaded when first used: ``import efface`` imports no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
