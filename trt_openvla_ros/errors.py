"""One family of errors: every message carries the value and the way out."""


class PolicyError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(PolicyError):
    """A checkpoint, parameter or file is missing or cannot be used."""


class ArtifactError(PolicyError):
    """An artifact cannot be written, or does not hold what its manifest says."""


class InputError(PolicyError):
    """An image or instruction that the policy cannot use."""


class SizeError(InputError):
    """An image with more pixels or bytes than are allowed."""


class ImageError(InputError):
    """An image whose size does not fit the settings of the camera."""


class EngineError(PolicyError):
    """A backend failed to load or to compute."""


class BrokenEngineError(EngineError):
    """A backend failed in the middle of its work; load it again before the next request."""


class OutputError(PolicyError):
    """The model's output is not an action; it must never become motion."""
