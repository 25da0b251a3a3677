"""Greater-than: something that began in 1742 ended in 17.. with a larger number (Hanna et al. 2023).

Where the tokenizer writes two digits as one token, the answer is a two-digit number and the corrupt prompt begins in
..01. Where it writes single digits, the answer is the tens digit and the corrupt prompt begins in ..0x. Either way
every answer is possible after the corrupt prompt. Years cannot be kept apart between splits; the nouns are.
"""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair, Tokenizer, continuation

TEMPLATES = {
    "a": (
        "The {span} went on from the year {century}{start} until the year {century}",
        "The {span} began in the year {century}{start} and ended in the year {century}",
    ),
    "b": (
        "The records of the {span} cover the years from {century}{start} to {century}",
        "Start of the {span}: {century}{start}. End of the {span}: {century}",
    ),
}
CENTURIES = ("15", "16", "17", "18")


@task_family("greater-than", question="Which year can be the end of a span?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    scene = {"century": draw.choose(CENTURIES), "span": draw.one(words("spans"))}
    start, corrupt, target, against = _two_digits(draw) if _in_pairs(draw.tokenizer, text) else _tens_digit(draw)
    return TaskPair(
        clean=text.format(start=start, **scene),
        corrupt=text.format(start=corrupt, **scene),
        target=target,
        against=against,
        template=label,
        group=scene["span"],
    )


def _in_pairs(tokenizer: Tokenizer, text: str) -> bool:
    """True if two digits can be one token after a century (in some; a common year may be one token as a whole)."""
    prompts = [text.format(start="42", span="war", century=century) for century in CENTURIES]
    return any(continuation(tokenizer, prompt, "60") is not None for prompt in prompts)


def _two_digits(draw: Draw) -> tuple[str, str, str, str]:
    start = draw.number(11, 88)
    return str(start), "01", str(draw.number(start + 1, 99)), str(draw.number(2, start - 1)).zfill(2)


def _tens_digit(draw: Draw) -> tuple[str, str, str, str]:
    tens, ones = draw.number(2, 8), draw.number(1, 9)
    return f"{tens}{ones}", f"0{ones}", str(draw.number(tens + 1, 9)), str(draw.number(1, tens - 1))
