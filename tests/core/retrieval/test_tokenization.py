from __future__ import annotations

import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.retrieval import tokenization as tokens
from memorag_core.retrieval.tokenization import STOP_WORDS, Tokenization, lexical_tokens


@given(st.text())
def test_any_text_gives_tokens_that_are_never_empty_and_always_the_same(text: str) -> None:
    tokens = lexical_tokens(text)
    assert all(tokens)
    assert not any(character.isspace() for token in tokens for character in token)
    assert lexical_tokens(text) == tokens


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_case_and_width_do_not_matter_to_latin_words(text: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    assert lexical_tokens(text.upper()) == lexical_tokens(text.lower()) == lexical_tokens(wide)


@given(st.lists(st.text(), max_size=4))
def test_texts_joined_by_a_line_break_give_their_tokens_joined(texts: list[str]) -> None:
    # A mark that opens a text would cling to what stands before it, in the joined text as in print.
    texts = [text for text in texts if not text or unicodedata.category(text[0])[0] != "M"]
    joined = [token for text in texts for token in lexical_tokens(text)]
    assert lexical_tokens("\n".join(texts)) == joined


def test_english_forms_of_a_word_meet_in_one_token() -> None:
    assert lexical_tokens("Repairing lanterns") == lexical_tokens("repaired LANTERN") == ["repair", "lantern"]


def test_english_clitics_are_dropped_with_either_apostrophe() -> None:
    assert lexical_tokens("Mara's clock") == lexical_tokens("Mara’s clock") == ["mara", "clock"]
    assert lexical_tokens("They don't, we'll, o'clock") == ["o", "clock"]


def test_stop_words_and_punctuation_leave_nothing() -> None:
    assert lexical_tokens("Who is it, and why? -- [ ] …") == []
    assert lexical_tokens(" ".join(sorted(STOP_WORDS))) == []
    assert lexical_tokens("") == []


def test_names_in_code_are_split_into_their_words() -> None:
    assert lexical_tokens("__init__.py asyncio.run_in_executor") == [
        "init",
        "py",
        "asyncio",
        "run",
        "executor",
    ]


def test_chinese_gives_characters_and_pairs_of_neighbours() -> None:
    assert lexical_tokens("修理灯笼") == ["修", "理", "灯", "笼", "修理", "理灯", "灯笼"]
    assert lexical_tokens("灯笼。修理") == ["灯", "笼", "灯笼", "修", "理", "修理"]


def test_japanese_keeps_its_length_mark_and_joins_its_scripts() -> None:
    assert lexical_tokens("東京タワー")[-4:] == ["東京", "京タ", "タワ", "ワー"]
    assert lexical_tokens("ﾀﾜｰ") == lexical_tokens("タワー")


def test_korean_words_meet_under_other_particles() -> None:
    assert {"등불"} <= set(lexical_tokens("등불을")) & set(lexical_tokens("등불은"))


def test_scripts_mixed_without_spaces_are_told_apart() -> None:
    assert lexical_tokens("用Python3修理") == ["用", "python3", "修", "理", "修理"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Фонарь горит", ["фонарь", "горит"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("مصباح قديم", ["مصباح", "قديم"]),
        ("Ἀθῆναι πόλις", ["αθηναι", "πολισ"]),  # casefold makes one sigma of the two
        ("Straße naïve", ["strass", "naïv"]),
    ],
)
def test_other_scripts_give_whole_words_with_their_marks(text: str, words: list[str]) -> None:
    assert lexical_tokens(text) == [unicodedata.normalize("NFKC", word) for word in words]


def test_thai_which_has_no_spaces_gives_what_a_reader_sees_as_characters() -> None:
    assert lexical_tokens("ที่นี่") == ["ที่", "นี่", "ที่นี่"]


def test_threads_get_the_tokens_that_one_thread_gets() -> None:
    texts = [f"repairing lanterns number {number} in the harbours" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lexical_tokens, texts)) == [lexical_tokens(text) for text in texts]


needs_sudachi = pytest.mark.skipif(
    not tokens.sudachi_is_installed(), reason="the extra 'ja' (sudachipy, sudachidict_small) is not installed"
)


@needs_sudachi
@given(st.text(alphabet=st.characters() | st.sampled_from("東京タワーのランプを修理しました附属ｺﾝﾋﾟｭｰﾀ゛")))
def test_japanese_tokens_of_any_text_are_never_empty_and_always_the_same(text: str) -> None:
    found = lexical_tokens(text, tokenization="japanese")
    assert all(found)
    assert not any(character.isspace() for token in found for character in token)
    assert lexical_tokens(text, tokenization="japanese") == found


@needs_sudachi
def test_japanese_words_meet_in_one_form_and_spelling_without_particles() -> None:
    def words(text: str) -> list[str]:
        return lexical_tokens(text, tokenization="japanese")

    assert words("東京タワーのランプを修理") == ["東京", "タワー", "ランプ", "修理"]
    assert words("走りました")[0] == words("走る")[0] == words("走って")[0]
    assert words("コンピュータ") == words("コンピューター") == words("ｺﾝﾋﾟｭｰﾀ")
    assert words("Python3で灯を3つ repaired lanterns")[-2:] == ["repair", "lantern"]
    assert words("등불") == lexical_tokens("등불")  # no Japanese
    assert words("をがは") == words("。、") == []


@needs_sudachi
def test_a_run_longer_than_the_analyser_takes_is_read_whole() -> None:
    assert lexical_tokens("東京" * 30_000, tokenization="japanese") == ["東京"] * 30_000


@needs_sudachi
def test_threads_get_the_japanese_words_that_one_thread_gets() -> None:
    texts = [f"{number}番目のランプを港で修理しました" for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda text: lexical_tokens(text, tokenization="japanese"), texts)]
    assert found == [lexical_tokens(text, tokenization="japanese") for text in texts]


def test_a_missing_analyser_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sudachipy", None)
    tokens._sudachi.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'memorag-adapters\[ja\]'"):
        lexical_tokens("灯", tokenization="japanese")


def test_an_unknown_tokenization_is_refused() -> None:
    with pytest.raises(InputError, match="'chinese'; expected one of grams, japanese"):
        lexical_tokens("灯", tokenization=cast(Tokenization, "chinese"))
