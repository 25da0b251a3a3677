"""Rule packs and what they find.

Enters: a network, stimuli, an atlas, a budget (:class:`AuditContext`). Leaves: for each question a
:class:`RuleResult` with findings graded by evidence and by severity, what was looked for and not found, and what this
network cannot answer.
Promised: every finding carries its effect with interval and null, the controls that tried to explain it away, its
limits, and the command that gives the number again.
"""

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
    exceeds,
)
from cutaway.audits.rules import PROFILES, AuditContext, Profile, Rule, profile_named, rules_for

__all__ = [
    "PROFILES",
    "AuditContext",
    "AuditResult",
    "Control",
    "Figure",
    "Finding",
    "NotFound",
    "NotTestable",
    "Profile",
    "Rule",
    "RuleResult",
    "Severity",
    "Table",
    "exceeds",
    "profile_named",
    "rules_for",
]
