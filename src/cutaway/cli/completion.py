"""What the shell may complete. Known here a second time, so that pressing Tab loads no torch; a test of the house
holds these names against the library's own.
"""

ZOO_NAMES = (
    "vgg16-hed",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
    "smollm2-135m",
    "minilm-l6",
)
ZOO_ACTIONS = ("list", "fetch", "verify")


def networks(incomplete: str) -> list[str]:
    """Embedded networks that begin so; what else names a network (a path, a hub id) is the shell's or the user's."""
    return [name for name in ZOO_NAMES if name.startswith(incomplete)]


def zoo_words(incomplete: str) -> list[str]:
    """What may follow ``cutaway zoo``."""
    return [word for word in (*ZOO_ACTIONS, *ZOO_NAMES) if word.startswith(incomplete)]
