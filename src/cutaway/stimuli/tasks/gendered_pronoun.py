"""Gendered pronoun: he or she, by the name (after Mathwin et al. 2023). Corrupt: a name of the other gender."""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": (
        "Yesterday {name} was late for the {occasion} because",
        "In the end {name} was tired after the {occasion}, so",
        "This time {name} enjoyed the {occasion} even though",
    ),
    "b": (
        "Well, {name} is such a good {role}, isn't",
        "Here {name} is known as a {role}, and",
        "Everybody says that {name} is a kind {role} and that",
    ),
}
PRONOUNS = {"women": " she", "men": " he"}


@task_family("gendered-pronoun", question="He or she?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    gender, other = draw.alternate((("women", "men"), ("men", "women")))
    name = draw.one(words(gender))
    scene = {"occasion": draw.one(words("occasions")), "role": draw.one(words("roles"))}
    clean, corrupt = (text.format(name=each, **scene) for each in (name, draw.one(words(other))))
    return TaskPair(clean, corrupt, PRONOUNS[gender], PRONOUNS[other], label, name)
