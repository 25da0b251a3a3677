"""Importing these files enters the built-in rules into the registry, in this order."""


def load() -> None:
    """Registers the built-in rules (once: modules are imported once)."""
    from cutaway.audits import edge_decision, powerful_units, protected  # noqa: F401
