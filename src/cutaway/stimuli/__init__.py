"""What to show a network: images, texts, contrast pairs and the package's own prompt sets.

In: a folder, a file, or nothing (the embedded stimuli). Out: :class:`StimulusSet`, an ordered set of
:class:`Stimulus` objects with stable ids, loaded lazily, in batches of bounded memory; :class:`ContrastPair`
objects and prompts for audits. Promised: the same content has the same id everywhere; order and samples are
deterministic; what cannot be used is skipped, counted and reported with its reason; a source without
anything usable is one clear error; nothing from outside is executed. This room loads no torch.

Language tasks (clean and corrupt prompts with their answers) have a front door of their own:
:mod:`cutaway.stimuli.tasks`.
"""

from cutaway.stimuli.contrast import ContrastPair, Span, aligned_positions, token_span
from cutaway.stimuli.core import Skipped, Stimulus, StimulusSet, content_id, file_id
from cutaway.stimuli.images import builtin_photographs, image_folder, read_image
from cutaway.stimuli.prompts import (
    Attribute,
    AttributePrompt,
    DecisionPrompt,
    DecisionSink,
    DefinitionalPair,
    MarkerPair,
    NounTemplate,
    Occupation,
    attribute,
    attribute_prompts,
    attributes,
    counterfactual_pairs,
    decision_pairs,
    decision_prompts,
    decision_sinks,
    definitional_pairs,
    occupation_templates,
    occupations,
    prompt_set,
    pronouns,
    single_token,
)
from cutaway.stimuli.text import builtin_text, text_file, text_folder

__all__ = [
    "Attribute",
    "AttributePrompt",
    "ContrastPair",
    "DecisionPrompt",
    "DecisionSink",
    "DefinitionalPair",
    "MarkerPair",
    "NounTemplate",
    "Occupation",
    "Skipped",
    "Span",
    "Stimulus",
    "StimulusSet",
    "aligned_positions",
    "attribute",
    "attribute_prompts",
    "attributes",
    "builtin_photographs",
    "builtin_text",
    "content_id",
    "counterfactual_pairs",
    "decision_pairs",
    "decision_prompts",
    "decision_sinks",
    "definitional_pairs",
    "file_id",
    "image_folder",
    "occupation_templates",
    "occupations",
    "prompt_set",
    "pronouns",
    "read_image",
    "single_token",
    "text_file",
    "text_folder",
    "token_span",
]
