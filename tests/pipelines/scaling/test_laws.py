"""Scaling laws: what their papers print, the guide's table, plans that agree with themselves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from tests.errors import about

from lmstack.core import InputError
from lmstack.pipelines.scaling.laws import LAWS, Law, LossLaw, law_named, plan_scaling

CHINCHILLA = LAWS["chinchilla"]


@pytest.mark.parametrize(
    ("size", "data", "ratio"),
    [
        (175e9, 300e9, "1.7"),  # GPT-3
        (70e9, 1.4e12, "20"),  # Chinchilla
        (8e9, 15e12, "1900"),  # Llama 3 8B, "about"
        (70e9, 15e12, "214"),  # Llama 3 70B
    ],
)
def test_the_guides_table_of_tokens_a_parameter(size: float, data: float, ratio: str) -> None:
    plan = plan_scaling(CHINCHILLA, size=size, data=data)
    digits = 2 if size != 70e9 or data < 2e12 else 3
    assert f"{float(f'{plan.tokens_per_parameter:.{digits}g}'):g}" == ratio
    assert plan.compute == pytest.approx(6 * size * data)


# Hoffmann's table 3: parameters, FLOPs and tokens of the optimum by approach 1.
TABLE_3 = [
    *((0.4e9, 1.92e19, 8.0e9), (1e9, 1.21e20, 20.2e9), (10e9, 1.23e22, 205.1e9)),
    *((67e9, 5.76e23, 1.5e12), (175e9, 3.85e24, 3.7e12), (280e9, 9.90e24, 5.9e12)),
    *((520e9, 3.43e25, 11.0e12), (1e12, 1.27e26, 21.2e12), (10e12, 1.30e28, 216.2e12)),
]


@pytest.mark.parametrize(("size", "compute", "data"), TABLE_3)
def test_approach_1_is_hoffmanns_table(size: float, compute: float, data: float) -> None:
    plan = plan_scaling(LAWS["chinchilla-1"], size=size)
    assert plan.compute == pytest.approx(compute, rel=0.04)
    assert plan.data == pytest.approx(data, rel=0.08)  # some rows are given to one digit
    assert plan.loss is None


def test_exponents_of_the_frontier_are_those_that_the_papers_print() -> None:
    printed = {
        "chinchilla-1": 0.50,  # Hoffmann, table 2
        "chinchilla-2": 0.49,
        "chinchilla-3": 0.46,
        "chinchilla": 0.51,  # Besiroglu, table 1
        "kaplan": 0.73,  # Kaplan, table 6
    }
    assert {name: round(law.size_exponent, 2) for name, law in LAWS.items()} == printed
    counts = {name: law.counts for name, law in LAWS.items()}
    assert counts == {**dict.fromkeys(printed, "all"), "kaplan": "non-embedding"}


@pytest.mark.parametrize("name", ["chinchilla", "chinchilla-3"])
@pytest.mark.parametrize("compute", [1e18, 1e21, 1e24])
def test_the_frontier_is_where_the_loss_is_least(name: str, compute: float) -> None:
    law = LAWS[name]
    assert law.loss is not None

    def loss(log_size: float) -> float:
        assert law.loss is not None
        return law.loss(math.exp(log_size), compute / 6 / math.exp(log_size))

    found = minimize_scalar(loss, bracket=(math.log(1e6), math.log(1e12)))
    assert law.size(compute) == pytest.approx(math.exp(found.x), rel=1e-3)


@pytest.mark.parametrize("pf_days", [1e-6, 1e-3, 1, 1e3])
def test_kaplans_curve_meets_kaplans_law_of_compute_on_the_frontier(pf_days: float) -> None:
    """Two formulas of the paper, fitted apart: L(C_min) = (3.1e8 / C_min)^0.050 (table 5)."""
    plan = plan_scaling(LAWS["kaplan"], compute=2 * pf_days * 8.64e19)
    assert plan.loss == pytest.approx((3.1e8 / pf_days) ** 0.050, rel=0.05)
    assert plan.data == pytest.approx(2e10 * pf_days**0.27, rel=0.15)  # D_opt of table 6


@given(st.sampled_from(sorted(LAWS)), st.floats(1e12, 1e28))
def test_any_one_of_three_gives_the_same_plan(name: str, compute: float) -> None:
    law = LAWS[name]
    plan = plan_scaling(law, compute=compute)
    assert plan.compute == pytest.approx(6 * plan.size * plan.data)
    for again in (plan_scaling(law, size=plan.size), plan_scaling(law, data=plan.data)):
        assert again.compute == pytest.approx(compute, rel=1e-6)
        assert again.size == pytest.approx(plan.size, rel=1e-6)
        assert again.data == pytest.approx(plan.data, rel=1e-6)


@given(st.floats(1e6, 1e12), st.floats(1e8, 1e14))
def test_no_choice_of_size_and_data_beats_the_best_use_of_its_compute(
    size: float, data: float
) -> None:
    plan = plan_scaling(CHINCHILLA, size=size, data=data)
    assert plan.best is not None
    assert plan.loss is not None
    assert plan.best.loss is not None
    assert plan.best.loss <= plan.loss * (1 + 1e-9)
    assert plan.best.compute == plan.compute


def test_exact_operations_a_token_change_compute_and_not_the_text() -> None:
    plain = plan_scaling(CHINCHILLA, size=1e8)
    exact = plan_scaling(CHINCHILLA, size=1e8, flops_per_token=9e8)
    assert exact.data == plain.data
    assert exact.compute == pytest.approx(plain.compute * 9 / 6)
    assert plan_scaling(CHINCHILLA, size=1e8, compute=9e17, flops_per_token=9e8).data == 1e9


@pytest.mark.parametrize("given_values", [{}, {"size": 1e9, "data": 1e9, "compute": 6e18}])
def test_none_or_all_of_three_is_refused(given_values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"given", check=about("size")):
        plan_scaling(CHINCHILLA, **given_values)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_size_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="size is", check=about("size")):
        plan_scaling(CHINCHILLA, size=value)


def test_an_unknown_law_names_the_nearest() -> None:
    with pytest.raises(InputError, check=about("law")) as error:
        law_named("chinchila")
    assert error.value.hint == "did you mean chinchilla?"
    with pytest.raises(InputError, match="no scaling law 'zzz'", check=about("law")) as error:
        law_named("zzz")
    assert error.value.hint == f"one of {', '.join(LAWS)}"


def test_of_two_the_third_follows_and_the_best_use_is_beside_it() -> None:
    for values in ({"compute": 6e20, "size": 1e9}, {"compute": 6e20, "data": 1e11}):
        plan = plan_scaling(CHINCHILLA, **values)
        assert (plan.compute, plan.size, plan.data) == (6e20, 1e9, 1e11)
        assert plan.tokens_per_parameter == 100
        best = plan_scaling(CHINCHILLA, compute=6e20)
        assert plan.best == best
        assert best.best is None
    assert (plan.law, plan.loss) == ("chinchilla", CHINCHILLA.loss(1e9, 1e11))
    exact = plan_scaling(CHINCHILLA, compute=6e20, data=1e11, flops_per_token=9e9)
    assert (exact.size, exact.data) == (1e9, 1e11)
    assert exact.compute == exact.best.compute == 9e20
    with pytest.raises(InputError, match="compute and size and data are given"):
        plan_scaling(CHINCHILLA, compute=1e20, size=1e9, data=1e9)
    with pytest.raises(InputError, match="nothing is given"):
        plan_scaling(CHINCHILLA)
    for name in ("compute", "size", "data"):
        assert getattr(plan_scaling(CHINCHILLA, **{name: 1.0}), name) == pytest.approx(1.0)
        for value in (0.99, 1.1e40):
            with pytest.raises(InputError, match=f"{name} is", check=about(name)):
                plan_scaling(CHINCHILLA, **{name: value})


def test_an_interval_leaves_out_as_much_below_as_above() -> None:
    samples = tuple(LossLaw(1, 1, E, 0.5, 0.5) for E in range(21))
    law = Law.of("x", "y", samples[0], samples[::-1])
    assert law.interval(lambda each: each.E) == (1, 19)
    assert law.interval(lambda each: each.E, 0.5) == (5, 15)
    assert (law.counts, law.size_exponent) == ("all", 0.5)


def test_loss_falls_to_the_entropy_of_text() -> None:
    law = LossLaw(482.01, 2085.43, 1.8172, 0.3478, 0.3658)
    assert law.loss(1e30, 1e30) == pytest.approx(1.8172)
