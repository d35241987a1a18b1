"""What answers are worth, by name: rewards that can be verified, and simple shaping.

arithmetic        the final number is that of the column ``answer``
json-schema       JSON that the column ``schema`` allows
unit-tests        code that passes the column ``tests``, in a sandbox
citations         sentences that what they cite of ``sources`` bears out
length            DAPO's punishment of answers that are too long
finished          the answer came to its end
reward-model      the score of a reward model
markers           parts of a form stand in it, in order
own               a function in a Python file that the recipe names
"""

from __future__ import annotations

from lmstack.train.rewards.reward import Checks, RewardFunction
from lmstack.train.rewards.weighted import REWARDS, Scored, reward_named, scored

__all__ = ["REWARDS", "Checks", "RewardFunction", "Scored", "reward_named", "scored"]
