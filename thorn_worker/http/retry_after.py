"""The Retry-After field (RFC 9110 section 10.2.3). Pure.

Dates are read by their three grammars (section 5.6.7) instead of a lenient mail parser: what is not one of
them is garbage, and garbage must not hold an endpoint.
"""

import re
from calendar import timegm
from datetime import UTC, datetime
from typing import Final

#: Longest wait that a receiver may ask for; more counts as this much.
MAX_RETRY_AFTER_S: Final = 86_400.0

#: Digits that certainly say less than the maximum fits into; longer numbers are not even converted.
_MAX_DIGITS: Final = 9
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_MONTH: Final = r"(?P<month>[A-Za-z]{3})"
_FORMS: Final = (
    re.compile(rf"[A-Za-z]{{3}}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT"),  # IMF-fixdate
    re.compile(rf"[A-Za-z]{{6,9}}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT"),  # RFC 850
    re.compile(rf"[A-Za-z]{{3}} {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})"),  # asctime
)


def retry_after_s(value: bytes, now_at: float) -> float | None:
    """Seconds from `now_at` (Unix seconds, when the answer came) that the field asks to wait.

    None for garbage.

    At 1994-11-06 08:49:07 UTC, b"Sun, 06 Nov 1994 08:49:37 GMT" asks for 30 s; so does b"30". A date that has
    passed asks for 0 s. More than 24 h counts as 24 h.
    """
    text = value.decode("latin-1").strip(" \t")
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0")
        return MAX_RETRY_AFTER_S if len(digits) > _MAX_DIGITS else min(float(digits or 0), MAX_RETRY_AFTER_S)
    at = _instant(text, now_at)
    return None if at is None else min(max(at - now_at, 0.0), MAX_RETRY_AFTER_S)


def _instant(text: str, now_at: float) -> float | None:
    found = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if found is None or found["month"].lower() not in _MONTHS:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        # The year nearest to now: more than 50 years ahead means the past (section 5.6.7).
        # In 1994, 44 is 2044 and 45 is 1945.
        this_year = datetime.fromtimestamp(now_at, UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
        elif year + 100 <= this_year + 50:
            year += 100
    month = _MONTHS.index(found["month"].lower()) + 1
    second = min(int(found["second"]), 59)  # a leap second (60) has no number of its own in Unix time
    try:
        moment = datetime(year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), second)
    except ValueError:
        return None
    return float(timegm(moment.timetuple()))
