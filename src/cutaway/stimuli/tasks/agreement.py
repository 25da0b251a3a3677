"""Subject-verb agreement: singular or plural, by the subject, across a noun that may disagree (Linzen et al. 2016).

Corrupt: the same subject in the other number.
"""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": (
        "The {item} near the {other_item}",
        "The {item} behind the {other_item}",
        "The {item} next to the {other_item}",
    ),
    "b": (
        "The {person} that the {other_person} met",
        "The {person} who saw the {other_person}",
        "The {person} with the {other_item}",
    ),
}
VERBS = ((" is", " are"), (" was", " were"), (" has", " have"))


@task_family("subject-verb-agreement", question="Does the verb follow the subject's number?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    item, other_item = draw.some(words("items"), 2)
    person, other_person = draw.some(words("people"), 2)
    number = draw.alternate((0, 1))
    scene = {"other_item": draw.choose(other_item), "other_person": draw.choose(other_person)}
    clean, corrupt = (text.format(item=item[i], person=person[i], **scene) for i in (number, 1 - number))
    verbs = draw.choose(VERBS)
    subject = item[0] if "{item}" in text else person[0]
    return TaskPair(clean, corrupt, verbs[number], verbs[1 - number], label, subject)
