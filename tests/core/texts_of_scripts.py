"""Texts of many scripts, drawn and fixed, and encoders that count: what tests of cutting stand on."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

ENGLISH = (
    "Mara Venn repairs timepieces in Orrin. She learned the trade from her aunt, keeper of the clock.\n\n"
    "  The tower burned in the year of the flood. Nobody has rung its bell since; the ropes hang cold.\n"
)
CHINESE = (
    "东胜神洲有一国土，名曰傲来国。国近大海，海中有一座名山，唤为花果山。\n\n"
    "那座山正当顶上，有一块仙石。其石有三丈六尺五寸高，有二丈四尺围圆。"
)
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    "何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。"
)
KOREAN = "옛날 어느 마을에 등대지기가 살았다. 그는 밤마다 불을 켰다. 바다는 조용했다."
ARABIC = "كان في المدينة رجل يصلح الساعات. تعلم الصنعة من عمته ﷺ."
EMOJI = "👩‍👩‍👧‍👦🏳️‍🌈e\u0301🇨🇭" * 4
SCRIPTS = (ENGLISH, CHINESE, JAPANESE, KOREAN, ARABIC, EMOJI)

pieces = st.one_of(
    st.sampled_from(
        "Mara |repairs.| |\n|\n\n|\t|。|唐僧|取经|👩‍👩‍👧|e\u0301|\u3000|\x1c|\u200b|\r\n|옛날|ﷺ|word".split(
            "|"
        )
    ),
    st.text(max_size=8),
)
visible_texts = st.lists(pieces, min_size=1, max_size=60).map("".join).filter(lambda text: bool(text.strip()))


class Bytes:
    """An encoder that reads bytes, between two special tokens; it counts one text at a time."""

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens

    def count_tokens(self, text: str) -> int:
        return len(text.encode()) + 2


@cache
def byte_pairs() -> Any:
    """A tokenizer of transformers that merges bytes: what a text takes is not the sum of its parts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    tokenizer.train_from_iterator(SCRIPTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@cache
def signs() -> Any:
    """A tokenizer of transformers in the manner of BERT, with a token for each letter and [UNK] for words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;!?。，"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    entries += sorted({sign for sign in CHINESE + JAPANESE if not sign.isspace()} - set(letters))
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )
