"""Training dictionaries: one trainer for every kind.

What enters: a :class:`~cutaway.bases.activations.Source` of rows and a :class:`Recipe` for each dictionary. What
leaves: :class:`Trained` dictionaries in the site's own scale, with their history. What is promised: the same seeds give
the same weights, a killed run goes on to the same weights, a bad batch changes nothing.
"""

from cutaway.bases.dictionaries.recipe import Recipe
from cutaway.bases.training.frame import Frame, geometric_median
from cutaway.bases.training.parallel import Team
from cutaway.bases.training.run import Progress
from cutaway.bases.training.trainer import Trained, train

__all__ = ["Frame", "Progress", "Recipe", "Team", "Trained", "geometric_median", "train"]
