import pytest

from bothways.text.tokenizing.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the old man and the sea", "我们今天去北京"] * 20, kind="bpe", vocab_size=300, exact=False)
