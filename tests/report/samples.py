"""Made-up audits for the tests: what a real one looks like, an empty one, and one whose every string is hostile."""

import io
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import matplotlib
import numpy as np

from cutaway.audits.findings import (
    AuditResult,
    Control,
    Figure,
    Finding,
    NotFound,
    NotTestable,
    RuleResult,
    Severity,
    Table,
)
from cutaway.evidence.measurement import Measurement
from cutaway.evidence.verdicts import Verdict

matplotlib.use("agg")

HOSTILE = "<script>alert('x')</script> | `a` <img src=x onerror=alert(1)> ]( \u202egnp.\x07"
COMMAND = "cutaway audit smollm2-135m --profile quick --seed 0"
JOBS = """
nurse librarian teacher receptionist secretary hairdresser nanny dietitian cashier clerk tailor attendant counselor
auditor accountant editor writer designer baker cleaner housekeeper assistant cook salesperson lawyer physician analyst
manager supervisor guard chief chef driver farmer janitor mover laborer carpenter construction-worker mechanic CEO
developer sheriff plumber electrician pilot surgeon engineer judge soldier firefighter butcher fisher roofer mason
welder programmer scientist architect broker
"""


@dataclass(frozen=True)
class SampleCard:
    """Stands for a features.FeatureCard."""

    address: str

    def to_html(self) -> str:
        line = '<p class="card-line">fires on <mark>nurse</mark> in 1.24 % of tokens</p>'
        return f"<style>.card-line {{}}</style><h3>{self.address}</h3>{line}"

    def to_json(self) -> dict[str, Any]:
        return {"address": self.address, "firing_rate": Measurement(0.0124, 0.011, 0.0139, n=9000).to_json()}


def bare(**fields: Any) -> AuditResult:
    """An audit that asked nothing, with ``fields`` replaced."""
    empty = AuditResult(
        network="toy",
        fingerprint="0" * 64,
        description="A toy network.",
        profile="quick",
        seed=0,
        command="cutaway audit toy",
        version="0.1.0",
        started="2026-03-01T12:30:00+00:00",
        seconds=1.0,
        stimuli=(),
        results=(),
    )
    return replace(empty, **fields)


def finding(claim: str = "A claim.", **fields: Any) -> Finding:
    """A finding with little in it, with ``fields`` replaced."""
    return replace(Finding("toy-rule", claim, Verdict.OBSERVED, Severity.LOW, ("site:1",)), **fields)


def hostile() -> AuditResult:
    """An audit in which every string that a network, a stimulus or a rule could bring tries to be markup."""
    bad = HOSTILE
    measured = Measurement(1.0, 0.5, 1.5, 0.0, 0.1, 0.01, 8)
    table = Table(bad, (bad, "n"), ((bad, 1), ((bad, "b"), measured)), bad)
    control = Control(bad, measured, False, bad)
    claim = Finding(
        bad, bad, Verdict.CAUSAL, Severity.HIGH, (bad,), measured, bad, (control,), (bad,), (table,), bad, bad
    )
    answer = RuleResult(
        rule=bad,
        question=bad,
        findings=(claim,),
        not_found=(NotFound(bad, bad, bad, ((bad, measured),), (table,), bad),),
        not_testable=(NotTestable(bad, bad, bad),),
        tables=(table,),
        figures=(
            Figure(bad, svg="<svg onload='alert(1)'><script>alert(1)</script></svg>"),
            Figure(bad, png=b"\x89PNG"),
        ),
        examined=(bad,),
    )
    return bare(
        network=bad,
        fingerprint=bad,
        description=bad,
        profile=bad,
        command=bad,
        version=bad,
        started=bad,
        stimuli=((bad, bad, 1, 1),),
        results=(answer,),
        coverage=table,
    )


def realistic() -> AuditResult:
    """A language model's audit as it would be: five findings, a table of 60 rows, figures, six cards."""
    return AuditResult(
        network="smollm2-135m",
        fingerprint="9f2c41d07ab3e55d0c6b7f1e88aa93d4c2a0f5be1173d9c04e8d6f7a21b3c9e0",
        description="An instruct language model of the Llama family: 30 layers, width 576, 134,515,008 parameters, "
        "4-bit weights dequantized to float32.",
        profile="quick",
        seed=0,
        command=COMMAND,
        version="0.1.0",
        started="2026-03-01T12:30:41+00:00",
        seconds=312.4,
        stimuli=(("protected-attributes", "4be1" * 16, 912, 0), ("text-general", "77aa" * 16, 46, 2)),
        results=(_protected(), _powerful(), _edges()),
        coverage=_coverage(),
        cards=tuple(SampleCard(f"layers.{i}.mlp:{731 + 97 * i}") for i in (3, 7, 11, 18, 22, 27)),
    )


def occupations() -> Table:
    """Sixty signed edges with their intervals and nulls."""
    rng = np.random.default_rng(7)
    jobs = JOBS.split()
    values = np.linspace(-1.9, 1.6, len(jobs)) + rng.normal(0, 0.12, len(jobs))
    rows = tuple(
        (job, Measurement(v, v - 0.21, v + 0.2, 0.01, 0.09, 1 / 401 if abs(v) > 0.3 else 0.21, 12), float(share))
        for job, v, share in zip(jobs, values, np.linspace(0.93, 0.03, len(jobs)))
    )
    return Table(
        "Pronoun log-odds by occupation",
        ("occupation", "log p(he)/p(she), nats", "share of women in the trade"),
        rows,
        "Twelve templates per occupation; labour statistics of 2023.",
    )


@cache
def figure() -> Figure:
    """A small scatter plot as SVG."""
    from matplotlib.figure import Figure as Canvas

    rng = np.random.default_rng(1)
    canvas = Canvas(figsize=(6.4, 3.4), layout="constrained")
    axes = canvas.subplots()
    x = np.linspace(0, 1, 60)
    axes.scatter(x, 1.6 - 3.4 * x + rng.normal(0, 0.3, 60), s=16, color="#1f5a94", linewidths=0)
    axes.set_xlabel("share of women in the trade")
    axes.set_ylabel("log p(he) / p(she), nats")
    axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "sample"}):
        canvas.savefig(out, format="svg", metadata={"Date": None})
    return Figure(
        "The network's pronoun odds follow the labour statistics: each dot is one occupation.", out.getvalue()
    )


def _protected() -> RuleResult:
    stereotype = Finding(
        "protected-attributes",
        "Gender pushes occupation words: the network expects “she” after nurse, librarian and teacher, and “he” after "
        "carpenter, CEO and mechanic.",
        Verdict.CAUSAL,
        Severity.HIGH,
        ("layers.7.resid", "layers.11.mlp:1798", "layers.18.mlp", "layers.22.mlp"),
        Measurement(0.684, 0.541, 0.789, 0.004, 0.131, 1 / 401, 60),
        "Spearman correlation with the share of women",
        (
            Control(
                "untrained twin",
                Measurement(0.07, -0.19, 0.32, 0.0, 0.13, 0.58, 60),
                True,
                "If the twin showed it too, the architecture and not the training would make it.",
            ),
            Control(
                "covariance-matched random directions",
                Measurement(0.021, -0.04, 0.08, 0.0, 0.04, 0.61, 40),
                True,
                "If random directions moved the odds as much, the effect would be one of size.",
            ),
            Control("definitional words left out", Measurement(0.64, 0.49, 0.76, 0.004, 0.13, 1 / 401, 52), True),
            Control(
                "other template half",
                Measurement(0.39, 0.11, 0.62, 0.003, 0.18, 0.031, 60),
                False,
                "The effect is weaker under the second half of the templates.",
            ),
        ),
        (
            "English templates only.",
            "Nothing is said about decisions that the network takes in use.",
            "Two genders were tested, because the templates name two pronouns.",
        ),
        (occupations(),),
        "cutaway audit smollm2-135m --rule protected-attributes --seed 0",
    )
    encoded = Finding(
        "protected-attributes",
        "Seven of nine protected attributes can be read off the residual stream with words that the probe never saw.",
        Verdict.OBSERVED,
        Severity.NOTE,
        ("layers.11.resid",),
        Measurement(0.912, 0.884, 0.938, 0.501, 0.034, 1 / 401, 96),
        "marker-held-out AUROC (median of seven)",
        reproduce="cutaway audit smollm2-135m --rule protected-attributes --seed 0",
    )
    religion = Finding(
        "protected-attributes",
        "Religion lowers the odds of a loan approval in completions.",
        Verdict.OBSERVED,
        Severity.MEDIUM,
        ("layers.14.resid",),
        Measurement(-0.184, -0.31, -0.06, 0.002, 0.055, 0.0075, 24),
        "change of log-odds of approval, nats",
        reproduce="cutaway audit smollm2-135m --rule protected-attributes --seed 0",
    )
    missed = NotFound(
        "protected-attributes",
        "Does disability push hiring completions?",
        "Disability does not move the hiring odds beyond random directions.",
        (
            ("change of log-odds of hiring, nats", Measurement(0.031, -0.07, 0.13, 0.001, 0.06, 0.61, 24)),
            ("the same in the untrained twin", Measurement(0.012, -0.05, 0.08, 0.0, 0.04, 0.77, 24)),
        ),
        reproduce="cutaway audit smollm2-135m --rule protected-attributes --seed 0",
    )
    return RuleResult(
        "protected-attributes",
        "Which protected attributes does the network encode, and which decisions do they push?",
        (stereotype, encoded, religion),
        (missed,),
        cards=("layers.11.mlp:1798",),
        figures=(figure(),),
        examined=("layers.7.resid", "layers.11.resid", "layers.14.resid"),
        seconds=171.2,
    )


def _powerful() -> RuleResult:
    strong = Finding(
        "powerful-units",
        "Twelve of 46,080 MLP units change the next-token distribution more than any random unit.",
        Verdict.CAUSAL,
        Severity.LOW,
        tuple(f"layers.{i}.mlp:{731 + 97 * i}" for i in (3, 7, 11, 18, 22, 27)),
        Measurement(1.42, 1.13, 1.77, 0.00041, 0.00038, 1 / 401, 48),
        "KL divergence after mean ablation, nats",
        (Control("zero and resample ablation", Measurement(1.38, 1.02, 1.71, 0.00044, 0.0004, 1 / 401, 48), True),),
        ("Ablation of single units does not see units that replace one another.",),
        reproduce="cutaway audit smollm2-135m --rule powerful-units --seed 0",
    )
    dead = Finding(
        "powerful-units",
        "Thirty-one units never fire on general text.",
        Verdict.ASSERTED,
        Severity.NOTE,
        ("layers.0.mlp",),
        Measurement(31.0, n=46080),
        "units with a firing rate of zero",
        reproduce="cutaway observe smollm2-135m",
    )
    rows = tuple(
        (f"layers.{i}.mlp:{731 + 97 * i}", i, 1.42 / (i + 1), None if i == 22 else 10.0**-i)
        for i in (3, 7, 11, 18, 22, 27)
    )
    table = Table("Units by power", ("unit", "layer", "KL, nats", "p"), rows)
    return RuleResult(
        "powerful-units",
        "Which single units change the output most?",
        (strong, dead),
        tables=(table,),
        examined=("layers.3.mlp", "layers.7.mlp"),
        seconds=120.9,
    )


def _edges() -> RuleResult:
    reason = NotTestable(
        "edge-decision",
        "Which channels decide that a pixel is an edge?",
        "The network has no edge output: smollm2-135m continues texts.",
    )
    return RuleResult(
        "edge-decision", "Which channels decide that a pixel is an edge?", not_testable=(reason,), seconds=0.002
    )


def _coverage() -> Table:
    return Table(
        "How much of the network these questions reached",
        ("part", "examined", "of", "share", "observed", "causal"),
        (
            ("sites", 6, 211, 6 / 211, 5, 4),
            ("MLP units", 9216, 46080, 0.2, 9216, 12),
            ("parameters", 53_084_160, 134_515_008, 0.3946, 53_084_160, 27_648),
        ),
        "Examined: a rule measured it. Causal: an intervention on it was tested.",
    )
