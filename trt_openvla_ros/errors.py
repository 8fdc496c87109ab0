"""One family of errors: every message carries the value and the way out."""


class PolicyError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(PolicyError):
    """A checkpoint, parameter or file is missing or says something impossible."""


class ArtifactError(PolicyError):
    """An artifact cannot be written, or does not hold what its manifest says."""


class InputError(PolicyError):
    """An image or instruction that the policy cannot use."""


class EngineError(PolicyError):
    """A backend failed to load or to compute."""


class BrokenEngineError(EngineError):
    """A backend failed in the middle of its work; it must be loaded again before it is asked."""


class OutputError(PolicyError):
    """The model's output is not an action; it must never become motion."""
