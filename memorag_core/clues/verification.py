"""What the memory recalled is held against the corpus: kept, put in order, or dropped.

In: recalled clues, the passages of the corpus, a function that says how much of a text the corpus says. Out:
the same with places and support, best first, and what is no clue any more, with the reason. Knows no memory
model and no index. What a clue says is checked, never whether it answers the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isnan, log
from typing import TypeAlias

import regex

from memorag_core.documents.words import shown
from memorag_core.errors import InputError
from memorag_core.memory.grounding import Passages
from memorag_core.settings import ClueSettings
from memorag_core.types import Clue, ClueKind, DroppedClue, Recall

Support: TypeAlias = Callable[[Sequence[str]], Sequence[float]]
"""For each text how much of what it says the corpus says, 0 to 1, such as ``EvidenceIndex.support``."""

_TOLD_IN_ORDER: frozenset[ClueKind] = frozenset({"key_point", "step"})
"""Kinds of clue whose order says something: that of the text, or of the way to the answer."""

_ASKING_WORDS = """
    who whom whose what which when where why how
    qui que quoi quel quelle quels quelles quand où pourquoi comment combien
    quién quiénes qué cuál cuáles cuándo dónde cómo cuánto cuánta cuántos cuántas
    wer wen wem wessen was welche welcher welches welchen wann wo warum wieso wie
    chi che cosa quale quali quando dove perché quanto quanti quanta quante
    quem qual quais onde porquê porque como quanta quantos quantas
    кто кого кому что чего какой какая какое какие когда где почему зачем как сколько чей
    wat welk welke wanneer waar waarom hoeveel
""".split()
_ASKING_SIGNS = """
    为什么 為什麼 什么 什麼 怎么样 怎麼樣 怎么 怎麼 怎样 怎樣 如何 为何 為何 何时 何時 何处 何處 何人
    哪里 哪裡 哪儿 哪个 哪個 哪些
    哪 谁 誰 多少 几 幾 吗 嗎 呢
    なぜ どうして どのように どんな どれ どの どこ どちら どう いつ だれ 何人 何 ですか ますか
    누구 무엇 무슨 어떤 어느 어디 언제 왜 어떻게 얼마나 몇
""".split()
_ASKING = regex.compile(rf"\b(?:{'|'.join(_ASKING_WORDS)})\b|{'|'.join(_ASKING_SIGNS)}", regex.IGNORECASE)
"""What makes a question of a statement; the corpus need not hold it."""


def check_clues(
    recalled: Sequence[Recall], *, passages: Passages, support: Support, settings: ClueSettings
) -> tuple[Recall, ...]:
    """Hold the clues of several questions against the corpus.

    A span that stands in the corpus, or what a reader takes for it (see ``grounding.alike``), has its place
    and the support 1. Every other clue is as well supported as its words: those of a surrogate question
    without what makes it a question. What was checked before comes out the same.

    Args:
        recalled: what came of asking the memory.
        passages: of the corpus.
        support: how much of a text the corpus says; called once, with all texts of all questions.
        settings: below which support a clue is dropped.

    Returns:
        For each question the same recall with other ``clues`` and ``dropped``. Within a kind clues stand by
        score and support together, but key points and steps as they were told. The best draft answer always
        stays: it is what the memory itself would answer, and weighs as little as its support.

    Raises:
        InputError: ``support`` gave no share from 0 to 1 for every text.
    """
    placed = [_placed(clue, passages) for one in recalled for clue in one.clues]
    texts = list(dict.fromkeys(_statement(clue) for clue in placed if clue.place is None))
    shares = dict(zip(texts, _shares(support, texts), strict=True))
    checked = iter(
        clue if clue.place is not None else replace(clue, support=shares[_statement(clue)]) for clue in placed
    )
    return tuple(_sifted(one, [next(checked) for _ in one.clues], settings) for one in recalled)


def _placed(clue: Clue, passages: Passages) -> Clue:
    place = clue.place
    if place is None and clue.kind == "span":
        place = passages.find(clue.text) or passages.find_alike(clue.text)
    return clue if place is None else replace(clue, place=place, support=1.0)


def _statement(clue: Clue) -> str:
    """The words of a clue that the corpus must hold."""
    return _ASKING.sub(" ", shown(clue.text)) if clue.kind == "query" else clue.text


def _shares(support: Support, texts: Sequence[str]) -> Sequence[float]:
    shares = support(texts) if texts else ()
    if len(shares) != len(texts) or not all(0 <= share <= 1 for share in shares):
        raise InputError(
            f"The support of {len(texts)} texts is {list(shares)!r:.200}; expected a share from 0 to 1 for "
            "each. EvidenceIndex.support gives them."
        )
    return shares


def _sifted(recall: Recall, clues: Sequence[Clue], settings: ClueSettings) -> Recall:
    kinds = list(dict.fromkeys(clue.kind for clue in clues))
    drafts = (clue for clue in clues if clue.kind == "answer")
    draft = max(drafts, key=lambda clue: (_belief(clue), _merit(clue)), default=None)

    def order(clue: Clue) -> tuple[int, float]:
        return kinds.index(clue.kind), 0.0 if clue.kind in _TOLD_IN_ORDER else -_merit(clue)

    kept: list[Clue] = []
    dropped = list(recall.dropped)
    for clue in sorted(clues, key=order):
        share = _share(clue)
        if share < settings.least_support and clue is not draft:
            reason = f"the text holds {share:.0%} of what it says"
            dropped.append(DroppedClue(clue.text, clue.kind, reason, clue.part))
        else:
            kept.append(clue)
    return replace(recall, clues=tuple(kept), dropped=tuple(dropped))


def _merit(clue: Clue) -> float:
    """The memory's belief in a clue times its support, as a logarithm."""
    share = _share(clue)
    return _belief(clue) + (log(share) if share > 0 else -inf)


def _belief(clue: Clue) -> float:
    return -inf if isnan(clue.score) else clue.score


def _share(clue: Clue) -> float:
    return 1.0 if clue.support is None else clue.support
