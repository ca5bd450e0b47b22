"""Which questions a smaller model can answer: a plain rule over the words. Pure.

Before it: the question. After it: `writer.py`, if the setting `answer.model_simple` names a model.
"""

from __future__ import annotations

import re

MOST_WORDS = 12
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_OPENING = """
are can did do does had has have is was were what what's when where which who who's whom whose
"""
_HOW = """
big far high large late long many much often old soon
"""
_DEMANDING = """
advantages all analyse analyze and because best better between but compare compared comparison cons describe differ
difference differences differs disadvantages each evaluate every explain how if list or pros relate relation
relationship should steps summarise summarize summary versus vs why
"""


def simple(question: str) -> bool:
    """True for a question after one fact, in English.

    That is: two to twelve words, at most one question mark, an opening such as what, who, when, where, which, is or
    does, or `how` with many, much, long and their like; and no word that asks for a comparison, a reason, a list or a
    condition. In doubt, and in any other language, it is False: then the full model answers.
    """
    words = [word.lower() for word in _WORD.findall(question)]
    if not 2 <= len(words) <= MOST_WORDS or question.count("?") > 1:
        return False
    if words[0] == "how":
        return words[1] in _HOW.split() and not set(_DEMANDING.split()).intersection(words[1:])
    return words[0] in _OPENING.split() and not set(_DEMANDING.split()).intersection(words)
