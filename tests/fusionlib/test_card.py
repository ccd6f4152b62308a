"""card: every fact is shown, as text and as a table, and nothing in it is markup."""

from __future__ import annotations

from dataclasses import fields
from xml.etree import ElementTree

from fusionlib.card import LABELS, Card
from fusionlib.methods import create, registry

CARD = Card(
    **{f.name: f"<{f.name}> & more" for f in fields(Card) if f.type == "str"},
    year=2021,
    parameters=1_234_567,
)


def test_rows_hold_every_fact_in_order():
    assert LABELS.keys() <= {f.name for f in fields(Card)}
    assert list(CARD.rows()) == [LABELS.get(f.name, f.name) for f in fields(Card)]
    assert CARD.rows()["parameters"] == "1,234,567" and CARD.rows()["year"] == 2021
    assert CARD.rows()["sha256 of the weights"] == "<weights_sha256> & more"


def test_text_is_one_aligned_line_per_fact():
    lines = str(CARD).splitlines()
    column = max(map(len, CARD.rows())) + 2
    assert [line[:column].rstrip() for line in lines] == list(CARD.rows())
    assert [line[column:] for line in lines] == [str(value) for value in CARD.rows().values()]


def test_html_is_escaped():
    table = ElementTree.fromstring(CARD._repr_html_())
    cells = [cell.text for row in table for cell in row]
    assert cells == [str(x) for item in CARD.rows().items() for x in item]


def test_card_of_a_method_has_no_gaps():
    card = create("res2netfuse").card
    assert all(str(value) for value in card.rows().values())
    assert len(card.weights_sha256) == 64 and card.method == "Res2NetFuse"
    assert "version" not in card.rows()
    assert all(isinstance(spec.version, int) and spec.version >= 1 for spec in registry().values())
