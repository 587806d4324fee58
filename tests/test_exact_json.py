from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_orb.exact_json import (
    ExactJSONDecoder,
    ExactJSONEncoder,
    canonical,
    dumps,
    loads,
)

NUMBERS = [
    "1.50",
    "-0.0",
    "0.1",
    "1E+2",
    "1E-7",
    "12345678901234567890.123456789012345678",
    "1E-38",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_keeps_its_digits_both_ways(number):
    value = loads(f'{{"quantity": {number}}}')

    assert str(value["quantity"]) == number
    assert dumps(value) == f'{{"quantity":{number}}}'


@pytest.mark.parametrize("text", ["0", "-1", "12345678901234567890"])
def test_a_whole_number_stays_an_int(text):
    assert loads(text) == int(text)
    assert type(loads(text)) is int
    assert dumps(int(text)) == text


@pytest.mark.parametrize(
    "value",
    [
        "1.50",
        '"1.50"',
        "\\u00001.50",
        '"\\u00001.50"',
        '\\"\\u00001.50\\"',
        "\\\\u0000",
        "Ωμέγα \U0001f600",
        "",
    ],
)
def test_a_string_is_never_taken_for_a_number(value):
    mixed = {"a": value, value: [Decimal("1.50"), value]}

    assert loads(dumps(mixed)) == mixed


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\x001.5", 'a"\x001.5', "\\\0", "\\\\\0", "\x001.5\0"]
)
@pytest.mark.parametrize("others", [[], [Decimal("1.5")]])
def test_a_nul_character_is_refused_in_words(text, others):
    for value in ([text, *others], [*others, {text: 1}]):
        with pytest.raises(ValueError, match="NUL character"):
            dumps(value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"a": [NaN]}'])
def test_reading_refuses_what_json_does_not_have(text):
    with pytest.raises(ValueError, match="not JSON"):
        loads(text)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity")],
)
def test_writing_refuses_what_json_does_not_have(value):
    with pytest.raises(ValueError, match=r"not JSON|JSON compliant"):
        dumps([value])


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe\xff", "[" * 200_000])
def test_every_unreadable_text_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        loads(text)


def test_bytes_are_read_as_utf_8():
    assert loads('{"name": "Ω", "n": 1.10}'.encode()) == {
        "name": "Ω",
        "n": Decimal("1.10"),
    }


def test_an_object_that_json_cannot_hold_is_a_type_error():
    with pytest.raises(TypeError, match="not JSON serializable"):
        dumps([object()])


def test_encoder_and_decoder_serve_the_json_module_as_django_uses_them():
    value = {"quantity": Decimal("1.50"), "name": 'a "b"'}
    text = json.dumps(value, cls=ExactJSONEncoder)
    file = io.StringIO()
    json.dump(value, file, cls=ExactJSONEncoder, indent=2)

    assert text == r'{"quantity": 1.50, "name": "a \"b\""}'
    assert '"quantity": 1.50,\n' in file.getvalue()
    for written in (text, file.getvalue()):
        assert str(json.loads(written, cls=ExactJSONDecoder)) == str(value)


def test_one_encoder_serves_many_values():
    encoder = ExactJSONEncoder()

    with pytest.raises(TypeError):
        encoder.encode([Decimal("1.5"), object()])
    assert encoder.encode([Decimal("1.5")]) == "[1.5]"
    assert encoder.encode([Decimal("2.5")]) == "[2.5]"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": 2}', '{ "b":2,"a":1 }'),
        ("[1.50]", "[1.5]"),
        ("[1E+2]", "[100]"),
        ("[100.0]", "[100]"),
        ('["\\u00e9"]', '["é"]'),
    ],
)
def test_equal_content_has_one_canonical_form(one, other):
    assert canonical(loads(one)) == canonical(loads(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[1.5]", '["1.5"]'),
        ("[1, 2]", "[2, 1]"),
        ("[0.10000000000000000000000000000000001]", "[0.1]"),
        ("[1E+99]", "[1E+98]"),
        ("[1E+99999999]", "[1E+99999998]"),
        ("[1E-99999999]", "[0]"),
        ("[1]", "[true]"),
        ('{"a": null}', "{}"),
    ],
)
def test_different_content_has_different_canonical_forms(one, other):
    assert canonical(loads(one)) != canonical(loads(other))


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(['"', "\\", "\\u0000", '"\\u00001"']),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(values)
def test_what_is_written_reads_back_equal(value):
    assert loads(dumps(value)) == value


@given(values)
def test_the_canonical_form_reads_back_equal(value):
    assert loads(canonical(value)) == value
