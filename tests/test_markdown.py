"""Somebody else's text in Markdown."""

import pytest

from imgclf.markdown import code, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("t-shirt (blue)", "t-shirt (blue)"), ("mobilenet_v2", "mobilenet\\_v2"), ("a|b `c`", "a\\|b \\`c\\`"),
        ("<script>", "&#60;script&#62;"), ("&amp;", "&#38;amp;"), ("two\nlines\r\n# three", "two lines # three"),
        ("# heading", "\\# heading"), ("- item", "\\- item"), ("1. item", "1\\. item"), ("12) item", "12\\) item"),
        ("[x](javascript:1)", "\\[x\\](javascript:1)"), ("\u202eoverride", "\\\\u202eoverride"),
        ("lone \udcff", "lone \\\\udcff"), ("nul\x00", "nul\\\\u0000"), ("2.21.0", "2.21.0"), ("שלום 🦊", "שלום 🦊"),
    ],
)  # fmt: skip
def test_a_name_shows_as_it_is(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "`a b`"), ("a`b", "``a`b``"), ("``", "``` `` ```"), ("a\nb", "`a b`"), ("<b>", "`<b>`")],
)
def test_a_code_span_cannot_be_ended_from_within(text: str, shown: str) -> None:
    assert code(text) == shown
