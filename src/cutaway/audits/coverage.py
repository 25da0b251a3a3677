"""How much of a network an audit has looked at, and what it can say of it: the ledger at the end of a report."""

from collections.abc import Iterable, Sequence

from cutaway.audits.findings import RuleResult, Table
from cutaway.evidence.verdicts import Verdict
from cutaway.networks.network import Network
from cutaway.networks.sites import Site

#: Kinds of site whose units add up to the network without counting anything twice.
COUNTED = ("conv", "mlp", "heads", "activation")
COLUMNS = (
    "units", "in all", "examined", "share examined", "observed", "causal", "mechanistic or more", "share unexplained",
)  # fmt: skip


def coverage_table(network: Network, results: Sequence[RuleResult]) -> Table:
    """For each kind of unit: how many there are, how many were examined, and how many have a verdict of their own."""
    examined = {name for result in results for name in result.examined}
    verdicts = _best_verdicts(unit for result in results for unit in result.units)
    rows = []
    for kind in COUNTED:
        sites = [site for site in network.sites() if site.kind == kind]
        if sites:
            rows.append(_row(kind, sites, examined, verdicts))
    return Table(
        "Coverage so far",
        COLUMNS,
        tuple(rows),
        "Examined: screened or measured by a rule. A verdict counts where a unit earned one by itself. Unexplained: no "
        "verdict at or above observed; that is nearly everything, and the number to watch.",
    )


def _row(kind: str, sites: Sequence[Site], examined: set[str], verdicts: dict[str, Verdict]) -> tuple[object, ...]:
    total = sum(site.width or 0 for site in sites)
    seen = sum(site.width or 0 for site in sites if site.name in examined)
    names = {site.name for site in sites}
    mine = [verdict for address, verdict in verdicts.items() if address.rsplit(":", 1)[0] in names]
    observed = sum(verdict is Verdict.OBSERVED for verdict in mine)
    causal = sum(verdict is Verdict.CAUSAL for verdict in mine)
    more = sum(verdict.rank > Verdict.CAUSAL.rank for verdict in mine)
    unexplained = 1 - (observed + causal + more) / total if total else 1.0
    return (kind, total, seen, seen / total if total else 0.0, observed, causal, more, unexplained)


def _best_verdicts(units: Iterable[tuple[str, Verdict]]) -> dict[str, Verdict]:
    best: dict[str, Verdict] = {}
    for address, verdict in units:
        if address not in best or verdict.rank > best[address].rank:
            best[address] = verdict
    return best
