"""Lines beside their rows: the right one for each row, whatever was cut and joined on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables.lines import Lines


def block(first: int, count: int) -> Lines:
    return Lines.of_text(b"\n".join(b"line-%d" % n for n in range(first, first + count)), count)


def test_blank_lines_are_none() -> None:
    """As where the messages are decoded."""
    assert list(Lines.of_text(b"\n a \n\t\r\nb\r\n\n", 2)) == [b" a ", b"b\r"]


@pytest.mark.parametrize("text", [b'{"a":1}{"b":2}\n', b'{"a":\n1}\n{"b":2}\n'])
def test_where_messages_are_not_one_a_line_no_line_is_known(text: bytes) -> None:
    """A wrong line would be worse than none."""
    assert list(Lines.of_text(text, 2)) == [b"", b""]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_cut_joined_and_picked_lines_are_those_of_a_list(
    sizes: list[int], data: st.DataObject
) -> None:
    """Like a list of texts, of which only the asked ones are made."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    lines = Lines.joined(block(start, size) for start, size in zip(starts, sizes, strict=True))
    texts = [b"line-%d" % n for n in range(sum(sizes))]
    for _ in range(3):
        assert (list(lines), len(lines)) == (texts, len(texts))
        assert lines.at(range(len(texts))[::-1]) == texts[::-1]
        if not texts:
            break
        if data.draw(st.booleans()):
            start = data.draw(st.integers(0, len(texts)))
            end = data.draw(st.none() | st.integers(start, len(texts)))
            lines, texts = lines.part(start, end), texts[start:end]
        else:
            chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), unique=True))
            lines, texts = lines.pick(chosen), [texts[i] for i in chosen]


def test_the_size_is_their_share_of_what_was_read() -> None:
    """Memory is bounded by it."""
    lines = block(10, 10)
    assert lines.n_bytes == 10 * len(b"line-10\n") - 1
    assert lines.part(0, 5).n_bytes == lines.n_bytes // 2
    assert Lines.of_list([b"ab", b""]).n_bytes == 2
    assert Lines.of_list([]).n_bytes == 0


def held(lines: Lines) -> int:
    """The bytes of all blocks that these lines keep in memory."""
    blocks = {id(block): block for block, _ in lines.parts}.values()
    return sum(len(block.text) + sum(map(len, block._lines or ())) for block in blocks)


def test_few_lines_do_not_keep_their_block_in_memory() -> None:
    """A stream with a record here and there among another's would keep all that was read."""
    blocks = [block(1000 * n, 200) for n in range(1, 50)]
    few = Lines.joined(found.pick([7, 9]) for found in blocks)
    assert held(few) == few.n_bytes
    assert list(few)[:2] == [b"line-1007", b"line-1009"]
    many = blocks[0].pick(range(0, 200, 2))
    assert held(many) <= 2 * many.n_bytes + 200
    assert many.at([3]) == [b"line-1006"]
    assert held(many) <= 2 * many.n_bytes + 200
