"""How near one text comes to another: functions of an answer and the reference, each in [0, 1].

Exact match and token F1 are SQuAD's (Rajpurkar et al. 2016): without case, punctuation, articles and spare blanks.
Where words are not set apart each character is a word, as MLQA does (Lewis et al. 2020).
"""

import re
import string
from collections import Counter
from decimal import Decimal

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORDS = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
# As ROUGE reads English; its own pattern knows no other letters.
ROUGE_WORDS = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
# 1,234.5 and -3, where the minus is no dash between two numbers.
NUMBER = re.compile(r"(?:(?<![\w).])-)?\d+(?:,\d{3})*(?:\.\d+)?")
# What gsm8k sets before the result (Cobbe et al. 2021).
RESULT = "####"


def normalized(text: str) -> list[str]:
    """The words of a text as SQuAD compares them."""
    return WORDS.findall(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)))


def exact_match(answer: str, reference: str) -> float:
    return float(normalized(answer) == normalized(reference))


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall of the words; where one text has none, whether both have."""
    mine, theirs = normalized(answer), normalized(reference)
    if not mine or not theirs:
        return float(mine == theirs)
    shared = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * shared / (len(mine) + len(theirs))


def number(text: str) -> Decimal | None:
    """The first number behind `####`; without that mark the last one. None: there is none."""
    _, mark, result = text.rpartition(RESULT)
    found = NUMBER.findall(result)
    if not found:
        return None
    return Decimal((found[0] if mark else found[-1]).replace(",", ""))


def number_match(answer: str, reference: str) -> float | None:
    """Whether the answer ends in the reference's number; None where the reference has none."""
    wanted = number(reference)
    return None if wanted is None else float(number(answer) == wanted)


def words(text: str) -> int:
    """How long a text is."""
    return len(WORDS.findall(text))
