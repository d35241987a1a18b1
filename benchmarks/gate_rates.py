"""How often the gate errs: 2,000 simulated gates of each kind, with intervals.

    make bench-gate-rates [QUICK=1]

A candidate that is worse by exactly the margin is promoted at most alpha of the time, and at most
alpha is it rejected, where a rule is only just broken; one whose distance from the bound is the
minimum detectable effect that gates print is promoted with the power asked for. The candidates are
those of the tests in tests/evals/gate/test_simulation.py. Writes results/gate_rates.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

from machine import machine
from recording import add_options, result_file
from spine import HERE

from lmstack.evals.gate import GateRule
from lmstack.evals.statistics import Estimate

sys.path.insert(0, str(HERE.parent))
from tests.evals.gate import test_simulation as simulated

RULE, BITS, WIDE = (GateRule("t", margin=margin) for margin in (0.05, 0.02, 0.1))
PAIRS = simulated.right_or_wrong(80, 0.6, 0.1, 0.05)
CLUSTERS = simulated.right_or_wrong(200, 0.9, 0.05, 0.0, 4, 1.0)
IN_THREE = [simulated.right_or_wrong(60, 0.6, 0.1, 0.05)] * 3
BETTER = simulated.right_or_wrong(30, 0.5, 0.0, 0.3)
GRADES = simulated.graded(0.0, 0.05)
GATES, QUICK_GATES = 2000, 20
LOOKS = (30, 60, 90)
GROWING = simulated.right_or_wrong(90, 0.6, 0.1, 0.05)


def equal_but(gain: float) -> simulated.Draw:
    return simulated.right_or_wrong(120, 0.6, 0.08 - gain / 2, 0.08 + gain / 2)


Rate = Callable[[int], Estimate]  # of so many gates
PROMOTED: dict[str, Rate] = {
    "one rule, right or wrong": lambda n: simulated.promoted(PAIRS, RULE, n),
    "one rule, clusters of four": lambda n: simulated.promoted(CLUSTERS, RULE, n),
    "one rule, grades from 0 to 1": lambda n: simulated.promoted(GRADES, RULE, n),
    "one rule, bits per byte": lambda n: simulated.promoted(simulated.bits(0.02), BITS, n),
    "three rules, one of them broken": lambda n: simulated.verdicts(
        "PROMOTE", [IN_THREE[0], BETTER, BETTER], simulated.THREE, n
    ),
    "three looks, declared": lambda n: simulated.promoted_at_any_look(3, GROWING, LOOKS, n),
    "three looks, any number declared": lambda n: simulated.promoted_at_any_look(
        "any", GROWING, LOOKS, n
    ),
}
REJECTED: dict[str, Rate] = {
    "one rule, right or wrong": lambda n: simulated.verdicts("REJECT", [PAIRS], (RULE,), n),
    "three rules, right or wrong": lambda n: simulated.verdicts(
        "REJECT", IN_THREE, simulated.THREE, n
    ),
}
POWER: dict[str, Rate] = {
    "one rule, right or wrong": lambda n: simulated.power_at(equal_but, WIDE, n),
    "one rule, bits per byte": lambda n: simulated.power_at(
        lambda gain: simulated.bits(-gain), BITS, n
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "gate_rates")
    args = parser.parse_args()
    gates = QUICK_GATES if args.quick else GATES
    rates: dict[str, dict[str, object]] = {}
    for kind, cases in (("promoted", PROMOTED), ("rejected", REJECTED), ("power", POWER)):
        for name, rate in cases.items():
            began = time.process_time()
            found = rate(gates)
            seconds = time.process_time() - began
            rates.setdefault(kind, {})[name] = found.to_json()
            between = found.between(lambda value: f"{value:.3f}")
            print(f"{kind:9} {name:34} {found.value:.3f} {between}  {seconds:4.0f} s", flush=True)
    result = {"machine": machine(), "gates": gates, "alpha": simulated.ALPHA, **rates}
    file = result_file(args, "gate_rates")
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
