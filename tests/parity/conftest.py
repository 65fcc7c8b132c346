import random

import pytest

PIECES = (
    "The old man looked at the sea",
    "isn't it? We'll see, they'd SAY",
    "我们今天去北京，明天回来。",
    "《红楼梦》一百二十回",
    "🙂👍🏽👨‍👩‍👧❤️🇨🇳",
    "1984 3.14159 70% 1,000,000",
    "  runs   of\twhite\n\n\nspace \r\n",
    "naïve café Straße l'été",
    "русский текст",
    "def f(x):\n    return {'a': [1, 2.0e-3]}",
    "https://example.org/a_b-c?d=e&f=%20#g",
    "control\x01\x07\x1b[0m\x7f",
    "<|endoftext|> [MASK] </s> <|im_end|>",
    "!!!???...---___*** ©™→∑√∞€£¥",
    "こんにちは世界",
)


@pytest.fixture(scope="session")
def many_texts():
    """Return 200 texts, each of several scripts."""
    draw = random.Random(0)
    joints = ("", " ", "\n", "，", "  ")
    return [draw.choice(joints).join(draw.choices(PIECES, k=draw.randint(1, 5))) for _ in range(200)]
