"""Docstring: which argument of a Python function is to be documented next? (Heimersheim and Janiak 2023.)

The answer is the next argument of the signature. Against it stands an argument that has been documented already, or
(set "b") one that comes later. Corrupt: the answer's place in the signature holds another word.
"""

from cutaway.stimuli.tasks.family import Draw, task_family, words
from cutaway.stimuli.tasks.pairs import TaskPair

TEMPLATES = {
    "a": (
        'def {function}(self, {one}, {two}, {next}):\n    """Handle one {thing}.\n\n'
        "    :param {one}: {first}\n    :param {two}: {second}\n    :param",
        'def {function}({one}, {two}, {next}):\n    """{Function} the {thing}.\n\n'
        "    :param {one}: {first}\n    :param {two}: {second}\n    :param",
    ),
    "b": (
        'def {function}({one}, {two}, {next}, {later}):\n    """Work on a {thing}.\n\n'
        "    @param {one}: {first}\n    @param {two}: {second}\n    @param",
        'def {function}_{thing}(self, {one}, {two}, {next}, {later}):\n    """{Function} it.\n\n'
        "    @param {one}: {first}\n    @param {two}: {second}\n    @param",
    ),
}


@task_family("docstring", question="Which argument is documented next?", templates=TEMPLATES)
def make(draw: Draw) -> TaskPair:
    """One candidate."""
    label, text = draw.template()
    one, two, after, later, other = draw.some(words("arguments"), 5)
    function = draw.one(words("functions"))
    first, second = draw.some(words("descriptions"), 2)
    scene = {"function": function, "Function": function.capitalize(), "thing": draw.one(words("things"))}
    scene |= {"one": one, "two": two, "later": later, "first": first, "second": second}
    wrong = draw.choose((one, two, later) if "{later}" in text else (one, two))
    clean, corrupt = (text.format(next=argument, **scene) for argument in (after, other))
    return TaskPair(clean, corrupt, f" {after}", f" {wrong}", label, after)
