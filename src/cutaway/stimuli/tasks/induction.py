"""Induction: a list of random words is repeated; what follows the last word? (Elhage et al. 2021; Olsson et al. 2022.)

Clean: "A B C D ... A B" asks for C. Against it stands another word of the list. Corrupt: in the first copy the last
word of the prompt is replaced, so every answer is still in the prompt, but nothing says which comes next.
"""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": ("Words:{first}{again}", "List one:{first} List two:{again}"),
    "b": ("Say it twice.{first}.{again}", "They wrote{first} and then they wrote{again}"),
}
LENGTHS = {"a": 10, "b": 7}  # the second set has shorter lists


@task_family("induction", question="What followed this word the first time?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    length = LENGTHS[draw.templates]
    *listed, stranger = draw.some(words("nouns"), length + 1)
    said = draw.number(2, length - 3)  # words of the second copy that the prompt shows
    last = said - 1
    changed = [stranger if i == last else word for i, word in enumerate(listed)]
    wrong = draw.choose([word for i, word in enumerate(listed) if i not in (last, said)])
    again = _spoken(listed[:said])
    return TaskPair(
        clean=text.format(first=_spoken(listed), again=again),
        corrupt=text.format(first=_spoken(changed), again=again),
        target=f" {listed[said]}",
        against=f" {wrong}",
        template=label,
        group=listed[said],
    )


def _spoken(listed: list[str]) -> str:
    return "".join(f" {word}" for word in listed)
