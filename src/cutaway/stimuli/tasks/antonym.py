"""Antonym: the opposite of a word. Corrupt: another word, whose opposite is the answer that stands against it."""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": (
        "The opposite of {word} is",
        "If something is not {word}, then it is the opposite:",
        "The antonym of the word {word} is the word",
    ),
    "b": (
        "Question: What is the opposite of {word}? Answer:",
        "Opposites: {word} and",
        "The words mean the opposite of each other: {word} and",
    ),
}


@task_family("antonym", question="What is the opposite of this word?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    (word, opposite), (other, elsewhere) = (_either_way(draw, pair) for pair in draw.some(words("antonyms"), 2))
    clean, corrupt = (text.format(word=each) for each in (word, other))
    return TaskPair(clean, corrupt, f" {opposite}", f" {elsewhere}", label, word)


def _either_way(draw: Draw, pair: tuple[str, str]) -> tuple[str, str]:
    return draw.choose((pair, (pair[1], pair[0])))
