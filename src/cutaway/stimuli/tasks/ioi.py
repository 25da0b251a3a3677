"""Indirect object identification: two people are named, one acts again, who receives? (Wang et al. 2023.)

Clean: the giver repeats the second (ABBA) or the first (BABA) name, so the answer is the name that occurs once.
Corrupt: a third name gives (ABC), so that both first names are equally good answers.
"""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": (
        "When {first} and {second} came to the {place}, {giver} gave a {object} to",
        "While {first} and {second} were waiting at the {place}, {giver} handed a {object} to",
        "After {first} and {second} left the {place}, {giver} offered a {object} to",
        "As {first} and {second} walked past the {place}, {giver} showed a {object} to",
    ),
    "b": (
        "For a whole day {first} and {second} stayed at the {place}. In the evening {giver} brought a {object} to",
        "Yesterday {first} and {second} met near the {place}. There {giver} passed a {object} to",
        "At first {first} and {second} had a long talk about the {place}. Later {giver} sent a {object} to",
        "The {place} was empty when {first} and {second} arrived. Then {giver} lent a {object} to",
    ),
}


@task_family("ioi", question="Which of two people is the receiver?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    receiver, giver, stranger = draw.some(words("women") + words("men"), 3)
    order = draw.alternate(("ABBA", "BABA"))
    first, second = (receiver, giver) if order == "ABBA" else (giver, receiver)
    label, text = draw.template()
    scene = {"first": first, "second": second, "place": draw.one(words("places")), "object": draw.one(words("objects"))}
    return TaskPair(
        clean=text.format(giver=giver, **scene),
        corrupt=text.format(giver=stranger, **scene),
        target=f" {receiver}",
        against=f" {giver}",
        template=f"{label}-{order}",
        group=receiver,
    )
