"""The second hops: what ties one name to another, how it is said and how it is asked for.

In: nothing. Out: ``RELATIONS``. The wording of statements is shared by all splits, like that of concepts; the
frames of questions are held apart. No word of an asking occurs in a statement, by stem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memorag_training.worlds.templates import BySplit, Frames, Subject


@dataclass(frozen=True, slots=True)
class Relation:
    """What ties a name to another name or to a value: how it is said, and how it is asked for.

    ``target`` is the kind of the object; ``gap`` replaces the object in an explicit question.
    ``symmetric`` relations hold both ways, so that their object may have no other of the kind.
    """

    id: str
    subject: Subject
    target: Literal["person", "place", "value"]
    gap: str
    says: Frames
    asks: BySplit
    values: Frames = ()
    symmetric: bool = False


RELATIONS: tuple[Relation, ...] = (
    Relation(
        id="residence",
        subject="person",
        target="place",
        gap="which place",
        says=("resides in {o}", "dwells in {o}", "is a citizen of {o}", "inhabits the suburbs of {o}"),
        asks={
            "train": (
                "Which town has the abode of {d}?",
                "In which town is {d} domiciled?",
                "Where is {d} domiciled?",
                "What is the address of {d}?",
                "To which town would you go to see {d}?",
                "What is the domicile of {d}?",
            ),
            "dev": ("Which is the abode of {d}?", "Which address has {d}?"),
            "test": ("Where would you find the abode of {d}?", "At which address do you reach {d}?"),
        },
    ),
    Relation(
        id="birthplace",
        subject="person",
        target="place",
        gap="which place",
        says=(
            "was born in {o}",
            "descends from the clans of {o}",
            "spent a childhood in {o}",
            "was baptised in {o}",
        ),
        asks={
            "train": (
                "From which town does {d} originally come?",
                "Which town is the origin of {d}?",
                "What is the native town of {d}?",
                "Where is {d} from?",
                "Of which town is {d} a native?",
                "From where does {d} hail?",
            ),
            "dev": ("Which is the place of origin of {d}?", "Where does {d} stem from?"),
            "test": ("What is the origin of {d}?", "Which is the native soil of {d}?"),
        },
    ),
    Relation(
        id="spouse",
        subject="person",
        target="person",
        symmetric=True,
        gap="whom",
        says=("is married to {o}", "eloped with {o}", "exchanged vows with {o}", "took {o} in marriage"),
        asks={
            "train": (
                "Who is the spouse of {d}?",
                "Who is husband or wife of {d}?",
                "Who is the beloved of {d}?",
                "With whom is {d} a couple?",
                "Name the spouse of {d}.",
                "Who is the consort of {d}?",
            ),
            "dev": ("Who is the partner for life of {d}?", "Who is wife or husband to {d}?"),
            "test": ("Whose spouse is {d}?", "Who would call {d} husband or wife?"),
        },
    ),
    Relation(
        id="teacher",
        subject="person",
        target="person",
        gap="whom",
        says=(
            "was apprenticed to {o}",
            "acquired the craft from {o}",
            "was taught by {o}",
            "attended the workshop of {o}",
        ),
        asks={
            "train": (
                "Who was the master of {d}?",
                "Who educated {d}?",
                "Whose pupil was {d}?",
                "Whose disciple was {d}?",
                "By whom was {d} educated?",
                "Name the tutor of {d}.",
            ),
            "dev": ("Who was the tutor of {d}?", "Who was educating {d}?"),
            "test": ("Who was schoolmaster to {d}?", "Who was the mentor of {d}?"),
        },
    ),
    Relation(
        id="debt",
        subject="person",
        target="person",
        gap="whom",
        says=(
            "has an unpaid loan from {o}",
            "obtained credit from {o}",
            "has an unsettled tab with {o}",
            "is indebted to {o}",
        ),
        asks={
            "train": (
                "Who is the creditor of {d}?",
                "To whom should {d} return something?",
                "Who is waiting to be repaid by {d}?",
                "Name the creditor of {d}.",
                "Who wants to be repaid by {d}?",
                "Who could dun {d}?",
            ),
            "dev": ("Who can demand payment from {d}?", "Which creditor has {d}?"),
            "test": ("Who is to be reimbursed by {d}?", "Whom has {d} still to reimburse?"),
        },
    ),
    Relation(
        id="neighbour",
        subject="person",
        target="person",
        symmetric=True,
        gap="whom",
        says=(
            "nods daily to {o} on the staircase",
            "chats with {o} on the veranda",
            "occupies the tenement adjoining {o}",
            "is separated by a partition from {o}",
        ),
        asks={
            "train": (
                "Who is the neighbour of {d}?",
                "Who dwelt nearest to {d}?",
                "Name the neighbour of {d}.",
                "Which neighbour has {d}?",
                "Who is a neighbour to {d}?",
                "Whose neighbour is {d}?",
            ),
            "dev": ("Who is a near neighbour of {d}?", "What is the name of the neighbour of {d}?"),
            "test": ("Who is neighbour to {d}?", "Which neighbour does {d} have?"),
        },
    ),
    Relation(
        id="rival",
        subject="person",
        target="person",
        symmetric=True,
        gap="whom",
        says=(
            "quarrels with {o}",
            "is in a feud with {o}",
            "is at odds with {o}",
            "despises {o}",
        ),
        asks={
            "train": (
                "Who is the enemy of {d}?",
                "Who is not a friend of {d}?",
                "Whose enemy is {d}?",
                "Who is the rival of {d}?",
                "Name the foe of {d}.",
                "Whom does {d} dislike?",
            ),
            "dev": ("Who is the foe of {d}?", "Who is an adversary to {d}?"),
            "test": ("Who is hostile to {d}?", "Whom would {d} not befriend?"),
        },
    ),
    Relation(
        id="rest",
        subject="person",
        target="value",
        gap="which weekday",
        says=("relaxes on {o}", "is idle on {o}", "dawdles on {o}"),
        asks={
            "train": (
                "When is {d} at ease?",
                "When does {d} have a holiday?",
                "When is {d} not to be met?",
                "When has {d} a holiday?",
                "When should you leave {d} alone?",
                "What is the holiday of {d}?",
            ),
            "dev": ("When is {d} not available?", "When is {d} on holiday?"),
            "test": ("When is it useless to call on {d}?", "When is {d} at leisure?"),
        },
        values=("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Saturdays"),
    ),
    Relation(
        id="river",
        subject="place",
        target="place",
        gap="which river",
        says=(
            "adjoins {o}",
            "straddles {o}",
            "is encircled by {o}",
            "is irrigated by {o}",
        ),
        asks={
            "train": (
                "Which stream is at {d}?",
                "What flows at {d}?",
                "Which current divides {d}?",
                "What stream would you follow to {d}?",
                "Name the stream by {d}.",
                "What flows past {d}?",
            ),
            "dev": ("What is the stream of {d} called?", "What flows by {d}?"),
            "test": ("Which waterway has {d}?", "What current flows at {d}?"),
        },
    ),
    Relation(
        id="ruler",
        subject="place",
        target="person",
        gap="whom",
        says=(
            "is governed by {o}",
            "obeys {o}",
            "elected {o} to the council",
            "accepts the command of {o}",
        ),
        asks={
            "train": (
                "Who is the mayor of {d}?",
                "Who is the chief of {d}?",
                "Who is in charge of {d}?",
                "Who has the highest office in {d}?",
                "Name the mayor of {d}.",
                "Who decides for {d}?",
            ),
            "dev": ("Who is chief at {d}?", "Who has authority in {d}?"),
            "test": ("Who has power in {d}?", "Who presides in {d}?"),
        },
    ),
    Relation(
        id="founder",
        subject="place",
        target="person",
        gap="whom",
        says=(
            "had {o} for a pioneer",
            "was planned by {o}",
            "commemorates {o} with an obelisk",
            "was settled by {o}",
        ),
        asks={
            "train": (
                "Who established {d}?",
                "Who began {d}?",
                "Who created {d}?",
                "Thanks to whom is there {d}?",
                "By whom was {d} created?",
                "Name the creator of {d}.",
            ),
            "dev": ("Who initiated {d}?", "Who called {d} into existence?"),
            "test": ("Who originated {d}?", "Thanks to whom does {d} exist?"),
        },
    ),
    Relation(
        id="crop",
        subject="place",
        target="value",
        gap="which crop",
        says=("sows {o}", "exports {o}", "has extensive acres of {o}", "ploughs for {o}"),
        asks={
            "train": (
                "What is harvested around {d}?",
                "What do farmers reap in {d}?",
                "What harvest has {d}?",
                "On what do farmers depend in {d}?",
                "What is reaped around {d}?",
                "What do the farmers cultivate at {d}?",
            ),
            "dev": ("What is the harvest of {d}?", "What does agriculture yield in {d}?"),
            "test": ("What do they reap at {d}?", "What is cultivated by {d}?"),
        },
        values=(
            "buckwheat",
            "turnips",
            "flax",
            "millet",
            "plums",
            "saffron",
            "sorghum",
            "beetroot",
            "rapeseed",
            "asparagus",
            "chicory",
        ),
    ),
    Relation(
        id="fair",
        subject="place",
        target="value",
        gap="which month",
        says=("has a jubilee in {o}", "erects maypoles in {o}", "twines garlands in {o}"),
        asks={
            "train": (
                "When does {d} celebrate?",
                "When is the festival of {d}?",
                "When is there a festival in {d}?",
                "In which season is {d} festive?",
                "When would {d} be festive?",
                "When are there stalls in {d}?",
            ),
            "dev": ("When does {d} have a festival?", "When is {d} most festive?"),
            "test": ("When are there festivities in {d}?", "When is {d} in a festive mood?"),
        },
        values=(
            "midsummer",
            "mid-June",
            "Advent",
            "mid-Lent",
            "September",
            "October",
            "November",
        ),
    ),
    Relation(
        id="owner",
        subject="thing",
        target="person",
        gap="whom",
        says=(
            "is registered to {o}",
            "is the property of {o}",
            "was bequeathed to {o}",
            "was purchased by {o}",
        ),
        asks={
            "train": (
                "Whose is {d}?",
                "Who possesses {d}?",
                "Who is the possessor of {d}?",
                "Who has {d}?",
                "Whose chattel is {d}?",
                "In whose possession is {d}?",
            ),
            "dev": ("Who is in possession of {d}?", "Who is the rightful possessor of {d}?"),
            "test": ("Who has the title to {d}?", "Who can dispose of {d}?"),
        },
    ),
    Relation(
        id="maker",
        subject="thing",
        target="person",
        gap="whom",
        says=(
            "was assembled by {o}",
            "was manufactured by {o}",
            "is credited to {o}",
            "was fashioned by {o}",
        ),
        asks={
            "train": (
                "Who created {d}?",
                "Who produced {d}?",
                "Whose art is {d}?",
                "By whom was {d} created?",
                "Who is the creator of {d}?",
                "Whose creation is {d}?",
            ),
            "dev": ("Who is the author of {d}?", "Who designed {d}?"),
            "test": ("Who brought {d} into existence?", "Who constructed {d}?"),
        },
    ),
    Relation(
        id="keeping",
        subject="thing",
        target="place",
        gap="which place",
        says=(
            "is preserved in {o}",
            "is stored in {o}",
            "is displayed in {o}",
            "was conveyed to {o} for safety",
        ),
        asks={
            "train": (
                "Where can you find {d}?",
                "Where should you search for {d}?",
                "To which town must you go to see {d}?",
                "In which town is {d}?",
                "Where would you see {d}?",
                "Which town has {d}?",
            ),
            "dev": ("Where is the location of {d}?", "In which city can you admire {d}?"),
            "test": ("Where can {d} be seen?", "Which settlement has {d}?"),
        },
    ),
)
"""The second hops."""
