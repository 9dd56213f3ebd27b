"""A memory that a person talks to again and again, kept on disk: told, told anew, asked in a later session.

Each turn is read once, and saved before it can be asked for. Of statements that say the same, the newest
stands first. It needs no language model; where there is one, `recall` takes it as `generate`.
"""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from memorag_core import Conversation, MemoRAG


def show(talk: Conversation, question: str, k: int) -> None:
    """What was said that bears on a question, best first."""
    print(f"{question}  ->  {talk.standalone(question)}")
    for found in talk.recall(question, k=k):
        later = ", said anew later" if found.superseded_by else ""
        print(f"  [{found.turn.session}, {found.turn.time:%Y-%m-%d}{later}] {found.turn.text}")


def main(store: Path) -> None:
    """Three sessions with the same store, as three processes would hold them."""
    with MemoRAG.open(store) as rag:  # made if there is none
        spring = Conversation(rag, "spring")
        march = datetime(2026, 3, 2, tzinfo=UTC)
        spring.add("user", "My cousin Mara Venn keeps bees.", time=march)
        spring.add("user", "Mara Venn lives in a flat near the river.", time=march)
        spring.add("user", "Ole Brandt plays the cello, and lives on the hill.", time=march)

    with MemoRAG.open(store) as rag:
        summer = Conversation(rag, "summer", reach="all")  # finds what was said in all sessions
        august = datetime(2026, 8, 1, tzinfo=UTC)
        summer.add("user", "Mara Venn lives in a house near the sea now.", time=august)
        show(summer, "What does Mara Venn keep?", 1)

    with MemoRAG.open(store) as rag:
        autumn = Conversation(rag, "autumn", reach="all")
        november = datetime(2026, 11, 3, tzinfo=UTC)
        autumn.add("user", "I had lunch with Mara Venn.", time=november)
        show(autumn, "And where does she live?", 2)
        show(autumn, "What does Ole Brandt play?", 1)
        autumn.forget_session()
        print("sessions:", *autumn.sessions())


if __name__ == "__main__":
    with TemporaryDirectory() as folder:  # a folder of your own keeps it
        main(Path(folder) / "talk.memorag")

# It prints:
# What does Mara Venn keep?  ->  What does Mara Venn keep?
#   [spring, 2026-03-02] My cousin Mara Venn keeps bees.
# And where does she live?  ->  And where does she live? (Mara Venn)
#   [summer, 2026-08-01] Mara Venn lives in a house near the sea now.
#   [spring, 2026-03-02, said anew later] Mara Venn lives in a flat near the river.
# What does Ole Brandt play?  ->  What does Ole Brandt play?
#   [spring, 2026-03-02] Ole Brandt plays the cello, and lives on the hill.
# sessions: spring summer
