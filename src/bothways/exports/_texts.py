"""Texts of all kinds, to compare into what tokens two programs cut them."""

import numpy as np

from bothways.text.tokenizing.tokenizer import Tokenizer

ORDINARY = (
    "The old man looked at the sea, and the sea looked back at him.",
    "Numbers: 3.14159, 1984, and 70%; 1,000,000 + 2 = 1000002.",
    "我们今天去北京，明天回来。《红楼梦》：“满纸荒唐言”——一把辛酸泪！",
    "It's 9 o'clock, and they're not here: we'll wait, I'd say, till they've come. 'Tis DON'T, YOU'RE.",
    "我们use三种library，共3.5万行code。",
    "Ünïcödé naïve café; ﬁ Straße L'été.",
    "Emoji: 🙂👍🏽👨‍👩‍👧❤️🇨🇳 ©™ → ∑√∞ ≠ €£¥",
    "white\tspace\n\n\n  runs   of    it \r\n\r\n and\u00a0others\u2003\u3000here  ",
    "   at the beginning, and at the end   \n",
    " \n \n\t\t  ",
    "control\x01\x07\x1b[0m characters\x7f",
    "https://example.org/a_b-c?d=e&f=%20#g user@example.org C:\\path\\file.txt",
    'def f(x):\n    return {\'a\': [1, 2.0e-3], "b": x**2}  # !!! ???\n\t<tag attr="v"/>&amp;',
    "<|endoftext|> <|im_start|> <|im_end|> [CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <unk>",
    "。。。，，，!!!???...---___***",
    "x",
    "",
)
_UNUSUAL = (
    "こんにちは世界、カタカナと漢字。",
    "한국어 문장입니다.",
    "ภาษาไทยไม่มีช่องว่าง",
    "हिन्दी में एक वाक्य",
    "русский текст, ελληνικά, ΣΊΣΥΦΟΣ, עברית, العربية, İstanbul",
    "cafe\u0301 n\u0303 \u212b A\u030a",
    "2³ ½ Ⅳ ٣٤ ४५ 第１２章 𠀀𪚥 〇々",
    "\u200b\u200d\ufeff\u202e and \ufffd \ue000",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
)
_DRAWN, _LENGTH = 64, 32  # texts that are drawn from the vocabulary, and tokens of each


def texts_for(tokenizer: Tokenizer) -> list[str]:
    """Return ordinary texts, unusual ones, and such as random tokens of the vocabulary make."""
    draw = np.random.default_rng(0)
    drawn = draw.integers(0, len(tokenizer), size=(_DRAWN, _LENGTH))
    return [*ORDINARY, *_UNUSUAL, *(tokenizer.decode(ids) for ids in drawn.tolist())]
