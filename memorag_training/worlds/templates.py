"""The sentence frames of generated worlds, held apart by split.

In: nothing. Out: frames of statements and of questions for train, dev and test, disjoint. Knows no
concept and no name. Slots: ``{n}`` a name, ``{v}`` what is said of it, ``{p}`` a place, ``{x}`` a need,
``{w}`` an asking word ("who", "which town"), ``{a}`` what is asked, ``{d}`` a description that stands for
a name, ``{o}`` the object of a relation. No word of a question frame occurs in a statement, by stem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "dev", "test"]
Subject: TypeAlias = Literal["person", "place", "thing"]

Frames: TypeAlias = tuple[str, ...]
BySplit: TypeAlias = Mapping[Split, Frames]


STATEMENTS: BySplit = {
    "train": (
        "{n} {v}.",
        "It is {n} that {v}.",
        "Pamphlets agree that {n} {v}.",
        "It is common knowledge that {n} {v}.",
        "As matters are, {n} {v}.",
        "As the ancient songs have it, {n} {v}.",
        "According to the parish clerk, {n} {v}.",
        "{n}, so the story has it, {v}.",
        "{n}, as is commonly reported, {v}.",
        "Nowadays {n} {v}.",
        "In truth, {n} {v}.",
        "Scarcely a doubt remains that {n} {v}.",
        "The chronicle records that {n} {v}.",
        "This fact is beyond doubt: {n} {v}.",
        "In this district it is {n} that {v}.",
        "Rumour has it that {n} {v}.",
        "By common consent {n} {v}.",
        "{n} {v}, or so the elders insist.",
        "{n} {v}, as the register confirms.",
        "Pedestrians report that {n} {v}.",
        "Strange but true, {n} {v}.",
        "A trustworthy source mentions that {n} {v}.",
        "{n} {v}, and this is commonly accepted.",
        "Gossip insists that {n} {v}.",
        "To reiterate: {n} {v}.",
        "Moreover, {n} {v}.",
        "For reasons that remain obscure, {n} {v}.",
        "Meanwhile {n} {v}.",
    ),
    "dev": (
        "It was duly assumed that {n} {v}.",
        "The annals of the abbey state that {n} {v}.",
        "{n}, according to the miller, {v}.",
        "Few would deny that {n} {v}.",
        "Newcomers are told that {n} {v}.",
        "Unquestionably {n} {v}.",
        "{n} {v}; this much is settled.",
        "Older folk maintain that {n} {v}.",
        "As chance has it, {n} {v}.",
    ),
    "test": (
        "A carter swore that {n} {v}.",
        "As ever, {n} {v}.",
        "{n}, some murmur, {v}.",
        "A footnote adds: {n} {v}.",
        "It emerged that {n} {v}.",
        "{n} {v}, to the surprise of outsiders.",
        "Undeniably {n} {v}.",
        "On this subject the reports converge: {n} {v}.",
        "{n} indeed {v}.",
    ),
}
"""What holds of any name."""

BARE_STATEMENTS: Mapping[Subject, Frames] = {
    "person": ("she {v}.", "he {v}.", "somebody {v}.", "one {v}.", "another {v}."),
    "place": ("it {v}.", "this village {v}.", "the city {v}.", "another {v}."),
    "thing": ("it {v}.", "this {v}.", "that {v}.", "the object {v}."),
}
"""What holds of nobody in particular, for lists."""

PLACED_STATEMENTS: BySplit = {
    "train": (
        "{n} of {p} {v}.",
        "In {p}, {n} {v}.",
        "{n} {v} in {p}.",
        "Elsewhere, in {p}, {n} {v}.",
        "It is {n} of {p} that {v}.",
        "{n}, well respected in {p}, {v}.",
        "Close by the entrance of {p}, {n} {v}.",
        "Opposite the archway of {p}, {n} {v}.",
        "Within the palisade of {p}, {n} {v}.",
        "{p} is where {n} {v}.",
        "At {p}, {n} {v}.",
        "In an alley of {p}, {n} {v}.",
        "Anyone from {p} will confirm that {n} {v}.",
        "On weekdays in {p}, {n} {v}.",
        "{n} {v}, and {p} is proud of it.",
        "As for {p}, it is {n} that {v}.",
        "On the outskirts of {p}, {n} {v}.",
        "In the eastern district of {p}, {n} {v}.",
        "{p} is lucky: there, {n} {v}.",
        "In the suburbs of {p}, {n} {v}.",
        "{n}, a familiar figure in {p}, {v}.",
        "The guilds of {p} agree that {n} {v}.",
        "In {p}, so the story has it, {n} {v}.",
        "At the edge of {p}, {n} {v}.",
        "{p} boasts of {n}, that {v}.",
        "In the heart of {p}, {n} {v}.",
    ),
    "dev": (
        "Downtown in {p}, {n} {v}.",
        "{n}, popular in {p}, {v}.",
        "Amid the bustle of {p}, {n} {v}.",
        "For the time being {n} {v} at {p}.",
        "{p} esteems {n}, that {v}.",
        "In the market of {p}, {n} {v}.",
        "By the crossroads of {p}, {n} {v}.",
        "Faraway in {p}, {n} {v}.",
    ),
    "test": (
        "Within the limits of {p}, {n} {v}.",
        "{n} {v} for the folk of {p}.",
        "Among the residents of {p}, it is {n} that {v}.",
        "{p} applauds {n}, that {v}.",
        "By the southern avenue of {p}, {n} {v}.",
        "Modestly, in {p}, {n} {v}.",
        "Despite the odds, {n} {v} at {p}.",
        "{n}, formerly a novice in {p}, {v} there.",
    ),
}
"""What a person does, and where, in one sentence."""

NEED_QUESTIONS: BySplit = {
    "train": (
        "Who would you ask about {x}?",
        "Who could help with {x}?",
        "Whom should you see about {x}?",
        "To whom would you turn with {x}?",
        "Who is the right person for {x}?",
        "Whose advice is worth having about {x}?",
        "Who might deal with {x}?",
        "With {x}, whom would you consult?",
        "Suppose there is {x}: who can help?",
        "The problem is {x}. Who should be asked?",
        "Who has the skill for {x}?",
        "Answer me: who is needed for {x}?",
        "Do you know who could handle {x}?",
        "Imagine {x}. Whom would you call?",
        "Who would be of use with {x}?",
        "There is trouble because of {x}; who can solve it?",
        "Which person would you choose for {x}?",
        "Because of {x}, whom should you meet?",
        "Who is the answer to {x}?",
        "In view of {x}, who is wanted?",
        "I am thinking of {x}. Who should come?",
        "Name the person to approach with {x}.",
        "What about {x}? Who can do something?",
        "Whom do you recommend for {x}?",
        "Somebody has a problem: {x}. Who might be the solution?",
        "Who ought to know of {x}?",
    ),
    "dev": (
        "Who is best placed to assist with {x}?",
        "Where {x} is concerned, who is the expert?",
        "If you had to deal with {x}, who would you contact?",
        "Who would be glad to be hired because of {x}?",
        "In the event of {x}, whom do you trust?",
        "Can you think of someone for {x}?",
        "{x}: who is the specialist?",
        "Which of them would sort {x}?",
    ),
    "test": (
        "Who can be useful regarding {x}?",
        "Confronted with {x}, to whom do you go?",
        "Please suggest somebody capable of {x}.",
        "Who would soon resolve {x}?",
        "My worry is {x}. Who can relieve it?",
        "By whom could {x} be resolved?",
        "For {x}, who is your choice?",
        "Is there anybody who copes with {x}, and who is it?",
        "Who will you summon concerning {x}?",
    ),
}
"""Implicit questions for a trade: they name the need, never the work."""

ASK_QUESTIONS: BySplit = {
    "train": (
        "{w} {a}?",
        "Answer me {w} {a}.",
        "Do you know {w} {a}?",
        "Can you answer {w} {a}?",
        "I wonder {w} {a}.",
        "Try to guess {w} {a}.",
        "{w}, do you think, {a}?",
        "{w}, I ask, {a}?",
        "Could you inform me {w} {a}?",
        "The problem is {w} {a}.",
        "Think hard: {w} {a}?",
        "Which is your answer: {w} {a}?",
        "Now answer {w} {a}.",
        "It is not said plainly {w} {a}; guess.",
        "Find {w} {a}.",
        "I wish to know {w} {a}.",
        "From what you know, {w} {a}?",
        "Please explain {w} {a}.",
        "Try to say {w} {a}.",
        "{w} conceivably {a}?",
        "{w} presumably {a}?",
        "Somebody asks {w} {a}. What is your answer?",
        "If you had to choose, {w} {a}?",
        "Do you happen to know {w} {a}?",
        "Deduce {w} {a}.",
        "Any idea {w} {a}?",
    ),
    "dev": (
        "Do inform me {w} {a}.",
        "Have you discovered {w} {a}?",
        "{w}, would you guess, {a}?",
        "Identify {w} {a}.",
        "{w}, in your view, {a}?",
        "Will you reveal {w} {a}?",
        "Here is a riddle: {w} {a}?",
        "Decide {w} {a}.",
    ),
    "test": (
        "Indicate {w} {a}.",
        "{w} probably {a}?",
        "Is it clear to you {w} {a}?",
        "{w}, in your opinion, {a}?",
        "Determine {w} {a}.",
        "Help me see {w} {a}.",
        "I am curious {w} {a}.",
        "Would you be able to deduce {w} {a}?",
        "Hint at {w} {a}.",
    ),
}
"""Questions with a verb phrase, for any subject; also the explicit ones."""

ASKING_WORDS: Mapping[Subject, BySplit] = {
    "person": {
        "train": ("who", "who", "which person", "who of them", "what sort of person"),
        "dev": ("who", "which of them"),
        "test": ("who", "which individual"),
    },
    "place": {
        "train": ("which town", "what town", "which place", "which of the towns", "what place"),
        "dev": ("which location", "which city"),
        "test": ("which settlement", "which spot"),
    },
    "thing": {
        "train": ("which thing", "what thing", "which of the things", "which object of these", "what"),
        "dev": ("which item", "which of the items"),
        "test": ("which article", "which of these articles"),
    },
}

NEED_DESCRIPTIONS: BySplit = {
    "train": (
        "the person to see about {x}",
        "the person to ask about {x}",
        "whoever could help with {x}",
        "the person you would consult on {x}",
        "the person who would deal with {x}",
        "whoever is right for {x}",
        "the person to call for {x}",
        "the helper you need with {x}",
        "whoever you would choose for {x}",
        "the person who might solve {x}",
        "the person to turn to with {x}",
        "whoever should know of {x}",
    ),
    "dev": (
        "the expert on {x}",
        "the person to contact about {x}",
        "whoever can assist with {x}",
        "the person best placed for {x}",
    ),
    "test": (
        "the individual capable of {x}",
        "the individual you summon for {x}",
        "whoever copes with {x}",
        "the best choice for {x}",
    ),
}
"""A person with a trade, described by the need."""

ASK_DESCRIPTIONS: Mapping[Subject, BySplit] = {
    "person": {
        "train": (
            "the person who {a}",
            "a certain person who {a}",
            "whoever {a}",
            "somebody who {a}",
            "precisely the person who {a}",
            "the only person who {a}",
        ),
        "dev": ("whichever person {a}", "a person that {a}"),
        "test": ("the individual who {a}", "someone who {a}"),
    },
    "place": {
        "train": (
            "the town which {a}",
            "the place which {a}",
            "the town that {a}",
            "the only town which {a}",
            "the place that {a}",
        ),
        "dev": ("the location that {a}", "the city which {a}"),
        "test": ("the settlement which {a}", "the spot that {a}"),
    },
    "thing": {
        "train": (
            "the thing which {a}",
            "precisely the object that {a}",
            "that which {a}",
            "the thing that {a}",
            "the only thing which {a}",
        ),
        "dev": ("the item that {a}", "the item which {a}"),
        "test": ("the article which {a}", "something that {a}"),
    },
}

TOWN_OF: BySplit = {
    "train": ("the town of {d}", "the place where you meet {d}", "the town around {d}"),
    "dev": ("the city of {d}", "the location of {d}"),
    "test": ("the settlement of {d}", "the spot where you see {d}"),
}
"""The place in which a person works, described by the person."""

EXPLICIT_DOES: BySplit = {
    "train": (
        "What does {n} do?",
        "What is the occupation of {n}?",
        "Tell me the profession of {n}.",
        "How does {n} earn a living?",
    ),
    "dev": ("What is the job of {n}?", "How is {n} employed?"),
    "test": ("By what does {n} make ends meet?", "Which profession has {n}?"),
}

EXPLICIT_GAPS: BySplit = {
    "train": ("{g}?", "Tell me: {g}?", "Do you know: {g}?", "The problem is: {g}?"),
    "dev": ("Let me ask: {g}?", "Here is a riddle: {g}?"),
    "test": ("Is it clear to you: {g}?", "I am curious: {g}?"),
}

FILLERS: BySplit = {
    "train": (
        "Rain fell on the road to {p} all {t}.",
        "The market at {p} was quiet all {t}.",
        "A cart lost two crates of onions near {p}.",
        "Snow lay on the hills until {t}.",
        "The coach from {p} was late again.",
        "No wind stirred for most of that {t}.",
        "Geese passed over {p} early in {t}.",
        "The ditch by the north field overflowed in {t}.",
        "Prices at {p} rose a little in {t}.",
        "A dull mist hung over the meadows.",
        "The toll at {p} was doubled in {t}.",
        "A circus camped under the poplars.",
        "Dust covered everything that {t}.",
        "There was thin frost on the fords.",
        "The signpost to {p} was blown down.",
        "An old barge drifted past {p} in {t}.",
        "Two magistrates dined badly at {p}.",
        "Nothing of note happened in {t}.",
        "Crows gathered above the stubble near {p}.",
        "The lane between {p} and the coast is steep.",
        "Clouds came up from the west every evening.",
        "A stray mule blocked the gate of {p}.",
        "The summer was long and the wells were low.",
        "Strangers bought up the barley at {p} in {t}.",
        "A rainbow was seen twice over {p}.",
        "The milestone past {p} has no number.",
        "Hail ruined the plums near {p} that {t}.",
        "A drover counted ninety oxen on the way to {p}.",
        "The old causeway sank a little more in {t}.",
        "Carters complained of ruts on the road to {p}.",
        "Swallows came back to {p} before {t} was out.",
        "A parade had been planned, but the drizzle went on.",
        "In {t} the ponds stood green and still.",
        "The tollkeeper outside {p} painted the barrier white.",
        "The fog did not clear until {t}.",
        "For a week {p} talked of nothing but turnips.",
    ),
    "dev": (
        "The track beyond {p} is stony.",
        "Thistles choked the verges that {t}.",
        "A warm breeze blew across {p} through {t}.",
        "Stalls stood half empty at {p}.",
        "A convoy of hay wagons rolled through {p}.",
        "The gutters ran full in {t}.",
        "Sleet followed the thaw.",
        "Herons waded upstream of {p}.",
        "The turnpike was closed for repairs in {t}.",
        "A comet was expected over {p}, but none appeared.",
    ),
    "test": (
        "The causeway to {p} was slippery in {t}.",
        "Larks rose from the fallow ground.",
        "Barrows creaked through {p} from first light.",
        "A drought parched the pastures that {t}.",
        "Puddles froze along the highway to {p}.",
        "Pedlars haggled loudly outside {p}.",
        "A landslip buried the footpath near {p}.",
        "The harvest moon stood low in {t}.",
        "Haze softened the horizon for days.",
        "The cattle sale at {p} ended early.",
    ),
}
"""Sentences that say nothing of anybody: weather, roads, markets. ``{t}`` is a season."""

MENTIONS: BySplit = {
    "train": (
        "{n} was mentioned twice that {t}.",
        "A stranger once mistook a signpost for {n}.",
        "In {t} there was some talk of {n}.",
        "The name of {n} appears on an old list.",
        "{n} was the topic at {p} for most of {t}.",
        "Somewhere a verse was written on {n}.",
    ),
    "dev": ("{n} came up in conversation at {p}.", "A rhyme on {n} went round in {t}."),
    "test": ("Two pages on {n} were torn out.", "A ballad of {n} was popular in {t}."),
}
"""Distractors that repeat a name and say nothing."""

SEASONS: Frames = ("spring", "summer", "autumn", "winter", "harvest", "Lent")
