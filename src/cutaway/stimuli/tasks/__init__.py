"""Tasks: clean and corrupt prompts of equal length, with the next token that is right and one that is wrong.

What enters: the name of a task (or a JSON Lines file), a tokenizer, a split, a template set, a seed. What leaves:
:class:`TaskSet`, pairs in a fixed order with stable ids. What is promised: within a pair both prompts have equally
many tokens and exchanged words lie at the same positions; ``target`` and ``against`` are one token each; splits of the
built-in tasks share no content words (years excepted); the same arguments give the same pairs; what a tokenizer cannot
use is reported with its reason. This room loads no torch.
"""

from cutaway.stimuli.tasks import (  # noqa: F401  (each file enters its task)
    agreement,
    antonym,
    capital_of,
    docstring,
    gendered_pronoun,
    greater_than,
    induction,
    ioi,
)
from cutaway.stimuli.tasks.family import TASKS, Draw, Family, part_of, task_family
from cutaway.stimuli.tasks.files import task_file
from cutaway.stimuli.tasks.make import task, task_names
from cutaway.stimuli.tasks.pairs import SPLITS, TaskPair, TaskSet, Tokenizer, aligned, continuation, unfit

__all__ = [
    "SPLITS",
    "TASKS",
    "Draw",
    "Family",
    "TaskPair",
    "TaskSet",
    "Tokenizer",
    "aligned",
    "continuation",
    "part_of",
    "task",
    "task_family",
    "task_file",
    "task_names",
    "unfit",
]
