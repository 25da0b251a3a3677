"""Capital-of: a country's capital. Corrupt: another country, whose capital is the answer that stands against it."""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": (
        "The capital of {country} is the city of",
        "As everybody knows, the capital of {country} is",
        "The name of {country}'s capital city is",
    ),
    "b": (
        "Question: What is the capital of {country}? Answer:",
        "They flew to {country} and landed in its capital,",
        "The government of {country} sits in the capital,",
    ),
}


@task_family("capital-of", question="What is the capital of this country?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    (country, capital), (other, elsewhere) = draw.some(words("capitals"), 2)
    clean, corrupt = (text.format(country=each) for each in (country, other))
    return TaskPair(clean, corrupt, f" {capital}", f" {elsewhere}", label, country)
