"""Models as judges: of one answer by a rubric, of two answers in both orders, of two labels; alone
or as a jury, with a report of what sways them."""

from lmstack.evals.judging.biases import JudgeBias, JudgedTable, find_biases
from lmstack.evals.judging.items import Item, Kind, Label, item_from_row
from lmstack.evals.judging.judgements import Asker, Judgement, JudgeRules, judgement_from_json
from lmstack.evals.judging.jury import Jury, jury_of
from lmstack.evals.judging.pairwise import (
    CRITERION,
    RATED,
    LabelJudge,
    PairJudge,
    RatingJudge,
    Verdict,
    Winner,
)
from lmstack.evals.judging.report import Agreement, JudgeReport, Repeats, judge_report
from lmstack.evals.judging.rubric import (
    RUBRIC,
    Criterion,
    RubricJudge,
    RubricRating,
    criteria_from,
)
from lmstack.evals.judging.scorers import PairwiseScorer, RubricScorer

__all__ = [
    "CRITERION",
    "RATED",
    "RUBRIC",
    "Agreement",
    "Asker",
    "Criterion",
    "Item",
    "JudgeBias",
    "JudgeReport",
    "JudgeRules",
    "JudgedTable",
    "Judgement",
    "Jury",
    "Kind",
    "Label",
    "LabelJudge",
    "PairJudge",
    "PairwiseScorer",
    "RatingJudge",
    "Repeats",
    "RubricJudge",
    "RubricRating",
    "RubricScorer",
    "Verdict",
    "Winner",
    "criteria_from",
    "find_biases",
    "item_from_row",
    "judge_report",
    "judgement_from_json",
    "jury_of",
]
