"""Unfolding: a network whose sites are computed by wider, sparser bases, measured as a network.

What enters: a network, bases of its sites. What leaves: :class:`Unfolded` (the network with sites replaced, its codes
and its error nodes), :class:`View` (the same network with codes as sites of their own: ``SITE@NAME:7`` is a unit for
every function that collects evidence), :class:`Behaviour` (what the unfolded network still does). What is promised:
parameters are shared and never changed; with errors kept an unedited pass is the original's bit for bit.
"""

from cutaway.bases.unfolding.behaviour import Behaviour, compare
from cutaway.bases.unfolding.resolve import viewed
from cutaway.bases.unfolding.unfolded import TaskAccuracy, Unfolded, task_accuracy, unfold
from cutaway.bases.unfolding.view import View, view

__all__ = ["Behaviour", "TaskAccuracy", "Unfolded", "View", "compare", "task_accuracy", "unfold", "view", "viewed"]
