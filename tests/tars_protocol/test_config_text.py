"""The text of TARS configurations: what it means, what it is written as, what joining makes of it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tars_protocol.config_text import ConfigTextError, Domain, join, read, write

TEMPLATE = """
# of all servers
<tars>
  <application>
    enableset=n
    <client>
      locator=tars.tarsregistry.QueryObj@tcp -h 127.0.0.1 -p 17890
      sync-invoke-timeout=3000
    </client>
    <server>
      app = ${app}
      closecout=0
    </server>
  </application>
</tars>
"""


def tree(**domains: Domain) -> Domain:
    return Domain({}, dict(domains))


def test_a_template_is_read_as_domains_of_keys() -> None:
    client = Domain({"locator": "tars.tarsregistry.QueryObj@tcp -h 127.0.0.1 -p 17890", "sync-invoke-timeout": "3000"})
    server = Domain({"app": "${app}", "closecout": "0"})
    application = Domain({"enableset": "n"}, {"client": client, "server": server})
    assert read(TEMPLATE) == tree(tars=Domain({}, {"application": application}))


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("a=b", "a", "b"),
        (" \t a \t=\t b \t ", "a", "b"),
        ("a=b\r", "a", "b"),
        ("a", "a", ""),
        ("a=", "a", ""),
        ("=b", "", "b"),
        ("=", "", ""),
        ("a=b=c", "a", "b=c"),
        (r"a\=b=c", "a=b", "c"),
        (r"a=b\=c", "a", "b=c"),
        (r"a\\=b", r"a\=b", ""),
        (r"a\\ =b", "a\\", "b"),
        (r"a=\r\n\t\\", "a", "\r\n\t\\"),
        (r"\ta\n=b", "\ta\n", "b"),
        ("a=b # no comment", "a", "b # no comment"),
        ("a=#b", "a", "#b"),
        ("a=<b>", "a", "<b>"),
        ("a=\x0bb\u00a0", "a", "\x0bb\u00a0"),
        ("a=b\u2028c=d", "a", "b\u2028c=d"),
        ("键=值\udcff", "键", "值\udcff"),
    ],
)
def test_a_line_is_a_key_and_its_value(line: str, key: str, value: str) -> None:
    assert read(f"<d>\n{line}\n</d>") == tree(d=Domain({key: value}))


@pytest.mark.parametrize("text", ["", "\n\n", " \t\r\n", "# only\n  # comments", "#<d>"])
def test_empty_lines_and_comments_are_nothing(text: str) -> None:
    assert read(text) == Domain()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("<a>\n</b>", 2, r"expected </a>, which was opened in line 1, got </b>"),
        ("<a>\n<b>\n</a>\n</b>", 3, r"expected </b>, which was opened in line 2, got </a>"),
        ("\n<a>\nb=c", 2, "<a> is never closed"),
        ("</a>", 1, "none is open"),
        ("<a>\n</a>\n</a>", 3, "none is open"),
        ("<a\n</a>", 1, "expected > after the name of a domain"),
        ("<a>\n</a", 2, "expected >"),
        (r"a=b\s", 1, r"\\s is no escape in a=b\\s"),
        ("\n" + r"a\ =b", 2, "a backslash at the end"),
        (r"a=b" + "\\", 1, "a backslash at the end"),
        (r"\x=b", 1, r"\\x is no escape"),
        ("<" + 1000 * "a", 1, "…"),
    ],
)
def test_what_breaks_the_grammar_is_an_error_that_names_the_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ConfigTextError, match=reason) as error:
        read(text)
    assert error.value.line == line
    assert len(str(error.value)) < 300


def test_the_rest_of_a_domains_line_is_ignored_and_its_name_is_taken_as_it_stands() -> None:
    assert read("<a> rest >\n< b > = c\n</ b >x\n</a>!") == tree(a=tree(**{" b ": Domain()}))


def test_a_domain_that_occurs_again_is_merged_and_a_key_that_does_moves_to_the_end() -> None:
    found = read("<a>\nx=1\ny=2\n</a>\n<b>\n</b>\n<a>\nx=3\n</a>")
    assert list(found.domains) == ["a", "b"]
    assert list(found.domains["a"].keys.items()) == [("y", "2"), ("x", "3")]


def test_it_is_written_with_domains_at_the_top_by_name_and_inner_ones_as_first_seen() -> None:
    text = "root=lost\n<z>\n<y>\n</y>\nk=v\n<x>\n a \n b = c\n</x>\n</z>\n# lost\n<a>\n</a>"
    assert write(read(text)) == (
        "<a>\n"
        "</a>\n"
        "<z>\n"
        "  k=v\n"
        "  <y>\n"
        "  </y>\n"
        "  <x>\n"
        "    a\n"
        "    b=c\n"
        "  </x>\n"
        "</z>\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("a", "", "a"),
        ("", "", "="),
        ("", "b", "=b"),
        ("a=b", "c=d", r"a\=b=c\=d"),
        ("a\\", "b", "a\\\\ =b"),
        ("\r\n\t", "\\", r"\r\n\t=\\"),
    ],
)
def test_keys_and_values_are_escaped(key: str, value: str, line: str) -> None:
    assert write(tree(d=Domain({key: value}))) == f"<d>\n  {line}\n</d>\n"


@pytest.mark.parametrize(
    ("key", "value"), [("a<", "b"), ("a", ">b"), (" a", "b"), ("a", "b "), ("#a", "b"), ("a ", "")]
)
def test_what_would_be_read_as_something_else_is_not_written(key: str, value: str) -> None:
    with pytest.raises(ConfigTextError, match=r"[<>]|space|comment"):
        write(tree(d=Domain({key: value})))


@pytest.mark.parametrize("name", ["a>b", "/a", "a\nb"])
def test_a_domain_whose_name_has_no_form_is_not_written(name: str) -> None:
    with pytest.raises(ConfigTextError, match="can't be called"):
        write(tree(**{name: Domain()}))


def test_the_last_text_wins_key_by_key() -> None:
    own = "<tars>\n<application>\n<server>\nclosecout=1\nhearttimeout=90\n</server>\n</application>\n</tars>"
    assert join([TEMPLATE, own]) == (
        "<tars>\n"
        "  <application>\n"
        "    enableset=n\n"
        "    <client>\n"
        "      locator=tars.tarsregistry.QueryObj@tcp -h 127.0.0.1 -p 17890\n"
        "      sync-invoke-timeout=3000\n"
        "    </client>\n"
        "    <server>\n"
        "      app=${app}\n"
        "      closecout=1\n"
        "      hearttimeout=90\n"
        "    </server>\n"
        "  </application>\n"
        "</tars>\n"
    )


def test_domains_nest_deeper_than_calls_do() -> None:
    deep = 20_000
    assert write(read("<d>\n" * deep + "</d>\n" * deep)).count("\n") == 2 * deep


# ------------------------------------------------------------------------------------------------- properties

# Few letters, so that names meet; those that mean something, so that they are met.
texts = st.text(st.sampled_from("ab=\\#/ \t\r\nn"), max_size=6)
keys = texts.filter(lambda text: text.strip(" ") == text and not text.startswith("#"))
values = texts.filter(lambda text: text.strip(" ") == text)
names = st.text(st.sampled_from("ab =#</"), max_size=4).filter(lambda text: not text.startswith("/"))
trees = st.recursive(
    st.builds(Domain, st.dictionaries(keys, values, max_size=4)),
    lambda inner: st.builds(
        Domain, st.dictionaries(keys, values, max_size=3), st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=8,
).map(lambda found: Domain({}, found.domains))


def ordered(domain: Domain) -> object:
    """A tree with the order of its keys and inner domains."""
    return list(domain.keys.items()), [(name, ordered(inner)) for name, inner in domain.domains.items()]


def by_name(domain: Domain) -> Domain:
    """The same with domains at the top in order of their names, as they are written."""
    return Domain(domain.keys, dict(sorted(domain.domains.items())))


@given(trees)
def test_what_is_written_is_read_as_it_was(found: Domain) -> None:
    assert ordered(read(write(found))) == ordered(by_name(found))


@given(trees, trees, trees)
def test_joining_goes_in_steps_or_at_once(first: Domain, second: Domain, third: Domain) -> None:
    texts = [write(each) for each in (first, second, third)]
    assert join(texts) == join([join(texts[:2]), texts[2]]) == join([texts[0], join(texts[1:])])


@given(trees, trees)
def test_after_joining_every_key_of_the_child_has_the_childs_value(parent: Domain, child: Domain) -> None:
    def expect(of: Domain, over: Domain, found: Domain) -> None:
        assert found.keys == {**over.keys, **of.keys}
        assert found.domains.keys() == {**over.domains, **of.domains}.keys()
        for name, inner in found.domains.items():
            expect(of.domains.get(name, Domain()), over.domains.get(name, Domain()), inner)

    expect(child, parent, read(join([write(parent), write(child)])))


@given(trees)
def test_a_text_joined_with_itself_or_nothing_is_itself(found: Domain) -> None:
    text = write(found)
    assert join([text]) == join([text, text]) == join([text, ""]) == join(["", text]) == text


@example("<a>\n=\n</a>")
@given(st.text(st.sampled_from("ab<>/=\\#\n n\udcff"), max_size=60))
def test_any_text_is_a_tree_or_an_error_and_nothing_else(text: str) -> None:
    try:
        found = read(text)
        again = write(found)
    except ConfigTextError:
        return
    assert ordered(read(again)) == ordered(by_name(Domain({}, found.domains)))
