"""efface erases concepts from generative models and measures how well they are erased.

    >>> import efface
    >>> model = efface.load_model("pocket")
    >>> images = model.sample(["a photo of a cat in the snow"], seeds=[1])

``__init__.pyi`` declares the public names. Each is loaded at its first use, so ``import efface`` imports no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
