"""Constitutional AI: a model criticizes and revises its own answers by a page of principles, and is
trained on that (Bai et al. 2022, arXiv:2212.08073).

    prompts -> drafts -> critiques -> revisions -> SFT set -> SFT
            -> two answers of the tuned model -> labels by the principles -> preferences -> DPO

Each stage is a file of JSON Lines in the run's folder. Does not cover what it looks like (`app`).
"""

__all__ = ()
