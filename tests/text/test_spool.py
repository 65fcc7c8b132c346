import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.text.reading.documents import Document
from bothways.text.spool import SpoolWriter, read_spool, spool_file


def write(folder, documents, part=3, **settings):
    with SpoolWriter(folder, part, **settings) as writer:
        for document in documents:
            writer.add(document)
    return writer


def read(folder, writer, part=3):
    return [list(read_spool(spool_file(folder, part, chunk))) for chunk in range(len(writer.counts))]


@given(st.lists(st.tuples(st.text(), st.text(alphabet=st.characters(codec=None)))))
def test_documents_come_back_as_they_were(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("spool")
    documents = [Document(source=source, text=text) for source, text in pairs]
    writer = write(folder, documents, chunk_bytes=10)
    assert [document for chunk in read(folder, writer) for document in chunk] == documents
    assert writer.bytes == sum(len(text.encode("utf-8", "surrogatepass")) for _, text in pairs)


@pytest.mark.parametrize(("chunk_bytes", "counts"), [(1, [1, 1, 1]), (8, [2, 1]), (9, [3]), (100, [3])])
def test_a_chunk_ends_once_it_has_enough_text(tmp_path, chunk_bytes, counts):
    writer = write(tmp_path, [Document(source="s", text=text) for text in ("中文", "ab", "x")], chunk_bytes=chunk_bytes)
    assert writer.counts == counts
    assert [len(chunk) for chunk in read(tmp_path, writer)] == counts
    assert len(list(tmp_path.iterdir())) == len(counts)


def test_no_documents_leave_no_file(tmp_path):
    assert write(tmp_path, []).counts == []
    assert list(tmp_path.iterdir()) == []
