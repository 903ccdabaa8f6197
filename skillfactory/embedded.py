"""The models that come with the package, by name."""

from importlib import resources

EMBEDDED = {"mini": "skillfactory.mini"}  # name: the package whose folder `model` holds it


def located(model: str) -> str:
    """The folder of an embedded model for its name; any other model, a path or a Hub id, as it is."""
    return str(resources.files(EMBEDDED[model]) / "model") if model in EMBEDDED else model
