"""Checksums that tell a number of a card, an account or a person from any other number. Pure.

Before this: `detection.py` found something of the right shape. Sources: ISO/IEC 7812-1 annex B (Luhn), ISO 13616 (IBAN)
with ISO 7064 (MOD 97-10; MOD 11,10 for the German tax number), and each country's own rule for its number of persons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18,
    "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23,
    "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28,
    "PT": 25, "RO": 24, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29, "VA": 22,
}  # fmt: skip
"""Characters of an IBAN by country: SEPA, and some beside it."""


def luhn(digits: str) -> bool:
    """True if the last digit is the Luhn check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card(digits: str) -> bool:
    """A payment card: issued by a network (first digit 2 to 6), Luhn, and not one digit all over."""
    return digits[0] in "23456" and len(set(digits)) > 1 and luhn(digits)


def iban(text: str) -> bool:
    """An IBAN without spaces, in capitals: its country's length, and MOD 97-10."""
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def german_tax_number(digits: str) -> bool:
    """The Steuer-ID: of its first ten digits one comes twice or three times, the others at most once."""
    counts = sorted(Counter(digits[:10]).values())
    if digits[0] == "0" or counts[-1] not in (2, 3) or counts[-2] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def french_social_security(text: str) -> bool:
    """The NIR: sex, year, month, department (2A and 2B for Corsica), commune, order, and a key MOD 97."""
    body = text[:13].replace("2A", "19").replace("2B", "18") if text[5:7] in ("2A", "2B") else text[:13]
    return body.isdigit() and 97 - int(body) % 97 == int(text[13:])


def spanish_identity(text: str) -> bool:
    """DNI (eight digits) or NIE (X, Y or Z and seven), with its letter."""
    digits = str("XYZ".index(text[0])) + text[1:-1] if text[0] in "XYZ" else text[:-1]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == text[-1]


_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10,
    22, 25, 24, 23,
), strict=True))  # fmt: skip


def italian_tax_code(text: str) -> bool:
    """The codice fiscale with its letter; the values of odd places are the decree's table."""
    total = sum(
        _ODD[character] if place % 2 == 0 else int(character, 36) - (0 if character.isdigit() else 10)
        for place, character in enumerate(text[:15])
    )
    return chr(ord("A") + total % 26) == text[15]


def swiss_social_security(digits: str) -> bool:
    """The AHV number: 756, and the check digit of EAN-13."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits[:12]))
    return digits.startswith("756") and (10 - total % 10) % 10 == int(digits[12])


def polish_pesel(digits: str) -> bool:
    """The PESEL: a date of birth whose month tells the century, and a weighted sum."""
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20]
    try:
        date(century + year, month % 20, day)
    except ValueError:
        return False
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
    total = sum(int(digit) * weight for digit, weight in zip(digits[:10], weights, strict=True))
    return (10 - total % 10) % 10 == int(digits[10])


def always(_: str) -> bool:
    """For a number without a checksum: its shape is all there is."""
    return True


Check = Callable[[str], bool]
