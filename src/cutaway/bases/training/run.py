"""One dictionary in training: its optimizer, what it knows about dead latents, one step at a time."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import astuple, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.bases.dictionaries.dictionary import Dictionary
from cutaway.bases.dictionaries.kind import Pass
from cutaway.bases.dictionaries.recipe import Recipe
from cutaway.bases.training.dead import aux_error, resample
from cutaway.bases.training.parallel import Team
from cutaway.errors import BadInput

MEMORY = 0.99  # of theta's running mean


@dataclass(frozen=True)
class Progress:
    """Where a run is. ``loss`` is in units of the rows' spread; ``explained`` the share of the batch's variance."""

    name: str
    step: int
    steps: int
    loss: float
    l0: float
    explained: float
    dead: float


class Run:
    """Trains one dictionary on batches that are already in the frame's scale."""

    def __init__(self, recipe: Recipe, dictionary: Dictionary, team: Team, *, compiled: bool = False) -> None:
        self.recipe, self.dictionary, self.team = recipe, dictionary, team
        self.parameters = list(dictionary.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=recipe.rate, fused=True)
        device = dictionary.W_enc.device
        self.since = torch.zeros(dictionary.width, dtype=torch.int64, device=device)
        self.chance = torch.Generator().manual_seed(recipe.seed)
        self.theta: float | None = None
        self.step = self.resampled = self.quiet = 0
        self.history: list[Progress] = []
        self.revive = recipe.revive or dictionary.rule.revive
        self._train_on = torch.compile(dictionary.rule.train_on) if compiled else dictionary.rule.train_on

    @property
    def done(self) -> bool:
        """All steps are made."""
        return self.step >= self.recipe.steps

    @property
    def ramp(self) -> float:
        """0 to 1 over the warm-up: the share of learning rate and penalty."""
        return min(1.0, (self.step + 1) / max(1.0, self.recipe.warmup * self.recipe.steps))

    @property
    def rate(self) -> float:
        """The learning rate of the step to come: up, flat, down to 0."""
        left = (self.recipe.steps - self.step) / max(1.0, self.recipe.decay * self.recipe.steps)
        return self.recipe.rate * min(self.ramp, left, 1.0)

    def advance(self, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"], *, report: bool) -> None:
        """One step; raises ``BadInput`` and changes nothing where the loss is not finite."""
        with self._precision(x.device.type):
            found = self._train_on(self.dictionary, x, y, self.recipe)
            loss = self._loss(found, x, y)
        value = self.team.mean(loss.item())[0]
        if not value < float("inf"):
            raise BadInput(
                f"The loss of {self.dictionary.name!r} is {value} at step {self.step}: it diverged; take a smaller "
                f"learning rate than {self.recipe.rate:g}."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._update()
        self._count(found, len(x))
        self.step += 1
        if self.revive == "resample":
            self._resample(x, y, found)
        if report:
            self._report(found, y, value)

    def state(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {
            "weights": self.dictionary.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "since": self.since,
            "chance": self.chance.get_state(),
            "numbers": [self.theta, self.step, self.resampled, self.quiet],
            "history": [astuple(entry) for entry in self.history],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Back to a :meth:`state`."""
        self.dictionary.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.since.copy_(state["since"])
        self.chance.set_state(state["chance"].cpu())
        self.theta, self.step, self.resampled, self.quiet = state["numbers"]
        self.history = [Progress(*entry) for entry in state["history"]]

    def _precision(self, device: str) -> Any:
        return torch.autocast(device, torch.bfloat16) if self.recipe.precision == "bf16" else nullcontext()

    def _loss(self, found: Pass, x: Tensor, y: Tensor) -> Tensor:
        loss = found.error + self.ramp * found.penalty
        if self.revive == "aux" and self.quiet >= self.recipe.patience and self.recipe.aux:
            dead = (self.since >= self.recipe.patience).nonzero()[:, 0]
            if len(dead):
                loss = loss + self.recipe.aux * aux_error(self.dictionary, x, y - found.out.detach(), dead)
        return loss / y.shape[1]

    @torch.no_grad()
    def _update(self) -> None:
        self.team.average(self.parameters)
        decoder = self.dictionary.W_dec
        if decoder.grad is not None:  # only what turns the unit rows, not what would stretch them
            decoder.grad.sub_((decoder.grad * decoder).sum(1, keepdim=True) * decoder)
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.step()
        self.dictionary.unit_rows()
        if "threshold" in self.dictionary.rule.learned and self.dictionary.threshold is not None:
            self.dictionary.threshold.clamp_(min=0)

    @torch.no_grad()
    def _count(self, found: Pass, rows: int) -> None:
        self.since += rows * self.team.size
        self.since[self.team.any(found.fired)] = 0
        self.quiet = int(self.since.max())
        if found.least is not None and self.dictionary.threshold is not None:
            least = self.team.mean(found.least)[0]
            self.theta = least if self.theta is None else MEMORY * self.theta + (1 - MEMORY) * least
            self.dictionary.threshold.fill_(self.theta)

    def _resample(self, x: Tensor, y: Tensor, found: Pass) -> None:
        every = max(1, self.recipe.patience // (len(x) * self.team.size))
        if self.step % every or self.step > (1 - self.recipe.decay) * self.recipe.steps:
            return
        dead = self.since >= self.recipe.patience
        errors = (found.out.detach() - y).square().sum(1)
        self.resampled += resample(self.dictionary, self.optimizer, x, y, errors, dead, self.chance)
        self.since[dead] = 0
        self.team.same([*self.parameters, *self.dictionary.buffers()])

    @torch.no_grad()
    def _report(self, found: Pass, y: Tensor, loss: float) -> None:
        error = float((found.out.float() - y).square().mean())
        error, spread, l0 = self.team.mean(error, float((y - y.mean(0)).square().mean()), found.l0)
        dead = float((self.since >= self.recipe.patience).double().mean())
        explained = 1 - error / spread if spread > 0 else float("nan")
        entry = Progress(self.dictionary.name, self.step, self.recipe.steps, loss, l0, explained, dead)
        self.history.append(entry)
