"""Fitting a law: the optimum of the objective, planted constants, intervals, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from tests.errors import about

from lmstack.core import FormatError, InputError, NotFoundError, StoreError
from lmstack.pipelines.scaling.fit import DELTA, Observations, fit_law
from lmstack.pipelines.scaling.laws import LossLaw, law_named, plan_scaling
from lmstack.pipelines.scaling.runs import RunEnd, observations, read_runs

PLANTED = LossLaw(A=482.01, B=2085.43, E=1.8172, alpha=0.3478, beta=0.3658)
SIZES, RATIOS = np.geomspace(1e6, 1e9, 8), (5, 20, 80, 320)


def runs(seed: int, noise: float, sizes=SIZES, ratios=RATIOS, law: LossLaw = PLANTED):
    """Losses of ``law`` with log-normal noise."""
    rng = np.random.default_rng(seed)
    size = np.repeat(sizes, len(ratios))
    data = size * np.tile(ratios, len(sizes))
    exact = np.array([law.loss(n, d) for n, d in zip(size, data, strict=True)])
    return Observations(size, data, exact * np.exp(rng.normal(0, noise, len(size))))


def test_planted_constants_come_back_exactly_without_noise() -> None:
    found = fit_law(runs(0, 0.0), samples=100).law
    for name in ("A", "B", "E", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(PLANTED, name), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_noisy_runs_give_the_law_within_its_intervals_and_predict_a_larger_model(seed: int) -> None:
    found = fit_law(runs(seed, 0.002), samples=200, level=0.999)
    for name, (value, low, high) in found.constants().items():
        true = PLANTED.size_exponent if name == "size exponent" else getattr(PLANTED, name)
        assert low <= value <= high
        assert low <= true <= high
    assert found.law.loss(1e11, 2e12) == pytest.approx(PLANTED.loss(1e11, 2e12), rel=0.01)
    assert 0.001 < found.noise < 0.004


@pytest.mark.parametrize("noise", [0.0005, 0.01])
def test_the_optimum_is_that_of_scipys_bfgs_on_hoffmanns_objective(noise: float) -> None:
    points = runs(7, noise)

    def objective(theta: np.ndarray) -> float:
        a, b, e, alpha, beta = theta
        terms = [a - alpha * np.log(points.sizes), b - beta * np.log(points.data)]
        predicted = logsumexp([*terms, np.full(len(points), e)], axis=0)
        size = np.abs(predicted - np.log(points.losses))
        each = np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2))
        return float(each.sum() * 1e6)

    law = fit_law(points, samples=100).law
    ours = np.array([np.log(law.A), np.log(law.B), np.log(law.E), law.alpha, law.beta])
    theirs = minimize(objective, ours, method="Nelder-Mead", options={"maxfev": 4000})
    theirs = minimize(objective, theirs.x, method="BFGS")
    assert objective(ours) <= theirs.fun * (1 + 1e-4)


def test_a_run_that_diverged_hardly_moves_the_law() -> None:
    points = runs(1, 0.002)
    losses = points.losses.copy()
    losses[5] *= 1.5
    clean = fit_law(points, samples=100)
    spoiled = fit_law(Observations(points.sizes, points.data, losses), samples=100)
    assert pytest.approx(clean.law.E, rel=0.02) == spoiled.law.E
    assert spoiled.law.alpha == pytest.approx(clean.law.alpha, rel=0.05)
    assert np.abs(spoiled.residuals).argmax() == 5


def test_a_seed_gives_the_same_intervals_again() -> None:
    points = runs(2, 0.005)
    one, two = (fit_law(points, samples=100, seed=3) for _ in range(2))
    assert one.constants() == two.constants()


def test_more_noise_gives_wider_intervals() -> None:
    widths = []
    for noise in (0.001, 0.01):
        low, high = fit_law(runs(4, noise), samples=200).interval(lambda law: law.alpha)
        widths.append(high - low)
    assert widths[1] > 4 * widths[0]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((SIZES[:2], RATIOS), "8 runs cannot determine"),
        ((SIZES[:2], range(5, 12)), "2 different sizes"),
        ((SIZES, (20, 20)), "grow together"),
    ],
)
def test_runs_that_cannot_determine_a_law_are_refused(points, message: str) -> None:
    with pytest.raises(InputError, match=message, check=about("runs")):
        runs(0, 0.001, *points)


def test_one_amount_of_data_for_all_sizes_is_refused() -> None:
    sizes = np.repeat(SIZES, 2)
    with pytest.raises(InputError, match="1 different amounts of data", check=about("runs")):
        Observations(sizes, np.full(16, 1e9), np.full(16, 3.0))


def test_nine_runs_of_three_sizes_and_amounts_are_enough() -> None:
    assert len(runs(0, 0.001, SIZES[:3], RATIOS[:3])) == 9
    sizes, amounts = np.repeat(SIZES[:3], 3), np.tile(1e9 * SIZES[:3], 3)
    made = Observations(sizes, amounts, [3] * 9)  # type: ignore[arg-type]
    assert made.losses.dtype == np.float64
    with pytest.raises(InputError, match="2 different amounts of data", check=about("runs")):
        Observations(np.repeat(SIZES[:5], 2), np.tile([1e9, 2e9], 5), np.full(10, 3.0))
    for name in ("sizes", "data", "losses"):
        values = {"sizes": sizes, "data": amounts, "losses": np.full(9, 3.0)}
        for bad in (0.0, np.inf):
            values[name] = np.where(np.arange(9) == 4, bad, values[name])
            with pytest.raises(InputError, match=f"{name} hold {bad:g}", check=about(name)):
                Observations(**values)


def test_size_and_data_are_told_apart_from_a_tenth_of_spread_across_their_line() -> None:
    line, across = np.repeat(np.linspace(-2, 2, 5), 2), np.tile([1.0, -1.0], 5) / np.sqrt(2)
    for spread, is_enough in ((0.11, True), (0.09, False)):
        sizes, data = np.exp(line + spread * across), np.exp(line - spread * across)
        if is_enough:
            assert len(Observations(sizes, data, np.full(10, 3.0))) == 10
        else:
            with pytest.raises(InputError, match="grow together", check=about("runs")):
                Observations(sizes, data, np.full(10, 3.0))


def test_residuals_are_what_the_law_leaves_and_noise_is_their_spread() -> None:
    points = runs(5, 0.004)
    found = fit_law(points, samples=100)
    curve = [found.law.loss(n, d) for n, d in zip(points.sizes, points.data, strict=True)]
    np.testing.assert_allclose(found.residuals, np.log(points.losses / curve), atol=1e-9)
    # Without the five that the minimum goes through, and made up for them.
    telling = np.sort(np.abs(found.residuals))[5:] * np.sqrt(32 / 27)
    assert found.noise == pytest.approx(1.4826 * np.median(telling))
    assert found.level == 0.9
    values = [law.alpha for law in found.samples]
    assert found.interval(lambda law: law.alpha) == tuple(np.quantile(values, [0.05, 0.95]))
    assert len({*values}) == len(found.samples) == 100
    for name, value in (("samples", 99), ("samples", 100_001), ("level", 0.0), ("level", 1.0)):
        with pytest.raises(InputError, match=f"{name} is", check=about(name)):
            fit_law(points, **{name: value})
    other = fit_law(points, samples=100, seed=1)
    assert other.law == found.law
    assert other.samples != found.samples


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="losses hold nan", check=about("losses")):
        Observations(SIZES, SIZES * 20, np.array([np.nan] * len(SIZES)))


def write_run(folder: Path, size: float, tokens: float, loss: float | None) -> None:
    folder.mkdir(parents=True)
    before = {"step": 0, "validation_loss": 9.5}
    steps = [{"step": k, "loss": 9.0 - k, "tokens": tokens * k / 4} for k in (1, 2, 3, 4)]
    lines = [before, *steps]
    if loss is not None:
        lines.append({"step": 4, "validation_loss": loss})
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "run.json").write_text(json.dumps({"parameters": size}))


def test_run_folders_give_size_tokens_and_held_out_loss(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/a", 1e6, 4e8, 3.5)
    write_run(tmp_path / "runs/b", 2e6, 8e8, None)
    held, last = read_runs([tmp_path / "runs"])
    assert (held.size, held.data, held.loss, held.held_out) == (1e6, 4e8, 3.5, True)
    assert (last.size, last.data, last.loss, last.held_out) == (2e6, 8e8, 5.0, False)
    assert read_runs([tmp_path / "runs/a", tmp_path / "runs/b/metrics.jsonl"]) == [held, last]


def test_a_table_gives_what_its_rows_say(tmp_path: Path) -> None:
    points = runs(5, 0.002)
    rows = zip(points.sizes, points.data, points.losses, strict=True)
    table = tmp_path / "runs.csv"
    table.write_text("loss,N,D\n" + "".join(f"{loss},{n},{d}\n" for n, d, loss in rows))
    read = observations(read_runs([table]))
    np.testing.assert_allclose(read.losses, points.losses)
    np.testing.assert_allclose(read.sizes, points.sizes)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("size,loss\n1,2\n", InputError, "none for the data"),
        ("N,D,loss\n1e6,many,3\n", FormatError, "runs.csv:2: D is 'many'"),
        ("N,D,loss\n1,2,3\n1e6\n", FormatError, "runs.csv:3: D is None"),
        ("N,D\n1,2\n", InputError, "has the columns 'n, d', none for the loss"),
        ("", InputError, "none for the size"),
    ],
)
def test_a_table_that_lacks_something_says_what(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(error, match=message) as said:
        read_runs([tmp_path / "runs.csv"])
    assert getattr(said.value, "param", None) == ("runs" if error is InputError else None)


@pytest.mark.parametrize(
    "head",
    ["\ufeff n , D,LOSS", "params,tokens,validation_loss,x", "Size,Data,L", "parameters,d,l"],
)
def test_columns_of_a_table_have_several_names(tmp_path: Path, head: str) -> None:
    table = tmp_path / "RUNS.CSV"
    table.write_text(f"{head}\n1e6,2e7,3.5,9\n2e6,4e7,3,9\n")
    assert read_runs([table]) == [
        RunEnd(f"{table}:2", 1e6, 2e7, 3.5),
        RunEnd(f"{table}:3", 2e6, 4e7, 3.0),
    ]


def test_the_loss_of_training_is_the_mean_of_its_last_tenth(tmp_path: Path) -> None:
    lines = [{"step": k, "loss": 100.0 - k, "tokens": 10 * k} for k in range(1, 31)]
    lines.insert(0, {"step": 0, "loss": 1.0, "validation_loss": 2.0})
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "run.json").write_text('{"parameters": 7}')
    assert read_runs([tmp_path]) == [RunEnd(str(tmp_path), 7.0, 300.0, 71.0, held_out=False)]
    lines += [{"step": 30, "validation_loss": 5.0}, {"step": 31, "loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_runs([tmp_path]) == [RunEnd(str(tmp_path), 7.0, 300.0, 5.0, held_out=True)]


@pytest.mark.parametrize(
    ("metrics", "facts", "said"),
    [
        (b'{"step": 0, "loss": 1}', b'{"parameters": 7}', r"metrics\.jsonl holds no loss"),
        (b'{"loss": 1}\n{', b'{"parameters": 7}', r"metrics\.jsonl:2 is not JSON"),
        (b'{"loss": 1}\n[3]', b'{"parameters": 7}', r"metrics\.jsonl:2 is \[3\], not an object"),
        (b'{"loss": 1}\n\xff', b'{"parameters": 7}', r"is not UTF-8 text \(byte 12\)"),
        (b'{"loss": 1}', b"{", r"run\.json does not say how large"),
        (b'{"loss": 1}', b"{}", r"run\.json does not say how large"),
        (b'{"loss": 1}', b'{"parameters": [7]}', r"run\.json does not say how large"),
    ],
)
def test_a_damaged_run_is_said(tmp_path: Path, metrics: bytes, facts: bytes, said: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(metrics)
    (tmp_path / "run.json").write_bytes(facts)
    with pytest.raises(FormatError, match=said):
        read_runs([tmp_path])
    with pytest.raises(NotFoundError, match=r"no file .*none\.csv", check=about("runs")):
        read_runs([Path("none.csv")])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StoreError, match=r"^reading .*folder\.csv failed"):
        read_runs([tmp_path / "folder.csv"])


def test_no_run_and_a_run_of_unknown_size_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run at", check=about("runs")):
        read_runs([tmp_path])
    write_run(tmp_path / "a", 1, 1, 1)
    (tmp_path / "a/run.json").unlink()
    with pytest.raises(NotFoundError, match="how large the model is", check=about("runs")):
        read_runs([tmp_path / "a"])


def test_a_fitted_law_plans_with_intervals_when_it_is_read_again(tmp_path: Path) -> None:
    found = fit_law(runs(6, 0.002), samples=100)
    path = tmp_path / "law.json"
    written = found.to_json()
    for name, values in found.constants().items():
        assert tuple(written["constants"][name][key] for key in ("value", "low", "high")) == values
        assert written["constants"].keys() == found.constants().keys()
    assert (written["level"], written["noise"], written["runs"]) == (
        found.level,
        found.noise,
        len(found.residuals),
    )
    path.write_text(json.dumps(written))
    law = law_named(str(path))
    plan = plan_scaling(law, compute=1e20)
    assert plan.loss == pytest.approx(found.law.loss(plan.size, plan.data))
    low, high = law.interval(lambda sample: sample.loss(plan.size, plan.data))
    assert low < plan.loss < high
    assert law.name == "law"
    assert law.source == f"fitted to {len(found.residuals)} runs"
    for damaged in ('{"law": {}}', "[]", "{", '{"samples": [], "runs": 1, "law": {"A": "x"}}'):
        path.write_text(damaged)
        with pytest.raises(FormatError, match="not a fitted scaling law", check=about("law")):
            law_named(str(path))
    with pytest.raises(NotFoundError, match="no file", check=about("law")) as error:
        law_named("my runs.json")
    assert error.value.hint == "lmstack scaling fit RUNS --out 'my runs.json'"


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "ratios", "heavy"),
    [
        (SIZES, RATIOS, False),
        (SIZES, RATIOS, True),
        (np.geomspace(1e6, 1e8, 5), (5, 20, 80), False),
    ],
    ids=["32 runs", "32 runs, heavy tails", "15 runs"],
)
def test_intervals_of_90_percent_cover_the_truth_at_least_so_often(
    sizes: np.ndarray, ratios: tuple[int, ...], heavy: bool
) -> None:
    """100 planted laws; of intervals that cover .9 of them, less than .82 is chance in one case of
    a hundred (binomial). Heavy tails give wider ones than they need."""
    of = {
        "E": lambda law: law.E,
        "alpha": lambda law: law.alpha,
        "beta": lambda law: law.beta,
        "size exponent": lambda law: law.size_exponent,
        "loss": lambda law: law.loss(1e10, 2e11),
    }
    hits = dict.fromkeys(of, 0)
    repeats = 100
    for seed in range(repeats):
        points = runs(seed, 0.0, sizes, ratios)
        rng = np.random.default_rng([seed, 1])
        drawn = rng.standard_t(3, len(points)) if heavy else rng.normal(0, 1, len(points))
        noisy = Observations(points.sizes, points.data, points.losses * np.exp(0.002 * drawn))
        found = fit_law(noisy, samples=150, seed=seed)
        for name, value in of.items():
            low, high = found.interval(value)
            hits[name] += low <= value(PLANTED) <= high
    shares = {name: count / repeats for name, count in hits.items()}
    assert all(share >= 0.82 for share in shares.values()), shares
    assert heavy or all(share <= 0.99 for share in shares.values()), shares
