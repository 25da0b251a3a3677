"""The parts of the rule ``protected-attributes`` (:mod:`cutaway.audits.protected`): what a language model knows
and does with nine protected attributes.

Enters: a causal language model with a tokenizer and a residual stream, and the package's own prompts. Leaves: findings
with their controls, things looked for and not found, tables and pictures. Promised: everything that is claimed of the
network is measured in the same way on its untrained twin; what words mean (king, queen) is kept apart from
stereotypes; nothing depends on which network it is.

    plan, reading        how much to run; running it
    encoding, units      what can be read, where
    occupations          the pronoun gap of nouns at the output
    sinks, swaps         total effects: words swapped in the text
    shifts, steering     the attribute's shift added inside, against random directions, under many specifications
    edges, stereotypes   the evidence of both, graded
    severity, claims, figures    what a reader is told
"""
