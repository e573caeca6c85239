#!/usr/bin/env python3
"""Writes cron_cases.h and zones/: when cron expressions fire, worked out minute by minute with Python's zoneinfo, and the
rules of the zones as this machine has them. Run it after changing the list; what it writes is checked in.

usage: cron_cases.py FOLDER
"""
import pathlib
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import TZPATH, ZoneInfo

MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()
NICKNAMES = {"@daily": "0 0 * * *", "@hourly": "0 * * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
             "@yearly": "0 0 1 1 *"}

# Around each change of the clocks: what fires in the hour that is not there, in the hour that comes twice, beside both.
AROUND = ["30 2 * * *", "0 2 * * *", "0 3 * * *", "15 1 * * *", "*/30 * * * *", "0 * * * *", "*/20 2 * * *", "45 1-3 * * *",
          "0 */2 * * *", "59 23 * * *", "0 0 * * *", "30 2 * * SUN"]
CHANGES = {
    "Europe/Amsterdam": ["2026-03-28T12:00", "2026-10-24T12:00", "2041-03-30T12:00", "2041-10-26T12:00"],
    "America/New_York": ["2026-03-07T12:00", "2026-10-31T12:00", "2050-03-12T00:00"],
    "Australia/Lord_Howe": ["2026-10-03T12:00", "2026-04-04T04:00", "2045-09-30T12:00"],
    "Pacific/Apia": ["2011-12-29T10:00", "2011-12-30T08:00"],
    "Africa/Casablanca": ["2026-02-14T12:00", "2026-03-21T12:00"],
    "America/Santiago": ["2026-09-05T12:00", "2026-04-04T12:00"],
    "UTC": ["2026-03-29T00:00"],
}
MORE = [
    ("UTC", "@daily", "2026-12-31T00:00"), ("UTC", "@hourly", "2026-12-31T22:59"), ("UTC", "@weekly", "2026-12-30T00:00"),
    ("UTC", "@monthly", "2027-11-30T00:00"), ("UTC", "@yearly", "2026-06-01T00:00"), ("UTC", "0 12 29 2 *", "2026-01-01T00:00"),
    ("UTC", "0 12 L * *", "2027-12-31T12:00"), ("UTC", "0 12 L 2 *", "2026-01-01T00:00"), ("UTC", "0 0 31 * *", "2026-01-31T00:00"),
    ("UTC", "0 0 13 * FRI", "2026-02-01T00:00"), ("UTC", "0 0 */2 * MON", "2026-02-01T00:00"), ("UTC", "0 0 * 2 1-5", "2026-02-20T00:00"),
    ("UTC", "5,10,15-20/2 8-10,14 * JAN,mar *", "2026-01-31T10:10"), ("UTC", "0 0 1-7 * 0", "2026-05-01T00:00"),
    ("UTC", "0 7 * * MON", "2026-11-23T07:00"), ("UTC", "0 7 * * MON", "2026-11-23T06:59"), ("UTC", "0 7 * * 7", "2026-11-21T07:00"),
    ("UTC", "0 7 * * FRI-SUN", "2026-11-18T07:00"), ("UTC", "1-59/7 0 * * *", "2026-11-18T00:50"),
    ("Europe/Amsterdam", "0 7 * * MON", "2026-03-20T00:00"), ("Europe/Amsterdam", "0 7 * * MON", "2026-10-12T00:00"),
    ("Europe/Amsterdam", "0 0 L * *", "2026-02-27T00:00"), ("Pacific/Apia", "0 7 * * FRI", "2011-12-20T00:00"),
    ("Pacific/Apia", "0 7 30 12 *", "2011-12-01T00:00"), ("America/New_York", "0 9 1 * *", "2026-02-28T00:00"),
    ("America/Santiago", "30 0 * * *", "2026-09-04T00:00"), ("Australia/Lord_Howe", "15 2 * * *", "2026-10-02T12:00"),
]


def bits(text, lo, hi, words=()):
    out = set()
    for part in text.split(","):
        if part == "L":
            out.add("L")
            continue
        part, _, step = part.partition("/")
        low, dash, high = part.partition("-")

        def number(s):
            return words.index(s.upper()) + (1 if words is MONTHS else 0) if s.upper() in words else int(s)

        a, b = (lo, hi) if low == "*" else (number(low), number(high) if dash else number(low))
        if words is DAYS and dash and b == 0:
            b = 7
        out |= set(range(a, b + 1, int(step or 1)))
    return out


class Cron:
    def __init__(self, text):
        f = NICKNAMES.get(text, text).split()
        self.star = [x.startswith("*") for x in f]
        self.minute, self.hour = bits(f[0], 0, 59), bits(f[1], 0, 23)
        self.day, self.month = bits(f[2], 1, 31), bits(f[3], 1, 12, MONTHS)
        self.weekday = {d % 7 for d in bits(f[4], 0, 6, DAYS)}

    def fits(self, local):
        if local.minute not in self.minute or local.hour not in self.hour or local.month not in self.month:
            return False
        date = local.day in self.day or ("L" in self.day and (local + timedelta(days=1)).day == 1)
        week = local.isoweekday() % 7 in self.weekday
        return date and week if self.star[2] or self.star[4] else date or week


def firings(zone, text, after, count, days):
    cron, tz = Cron(text), ZoneInfo(zone)
    out, t = [], after.replace(second=0) + timedelta(minutes=1)
    before = (t - timedelta(minutes=1)).astimezone(tz).replace(tzinfo=None)
    for _ in range(days * 24 * 60):
        shown = t.astimezone(tz)
        local = shown.replace(tzinfo=None)
        fires = cron.fits(local) and not (shown.fold and not cron.star[0] and not cron.star[1])
        gap = before + timedelta(minutes=1)
        while gap < local and not fires and not cron.star[1]:
            fires = cron.fits(gap)
            gap += timedelta(minutes=1)
        if fires:
            out.append(int(t.timestamp()))
            if len(out) == count:
                break
        before, t = local, t + timedelta(minutes=1)
    return out


def just_before(zone, after):
    """What fires often is looked at from a little before the change on."""
    tz, t = ZoneInfo(zone), datetime.fromisoformat(after).replace(tzinfo=timezone.utc)
    while t.astimezone(tz).utcoffset() == (t + timedelta(minutes=30)).astimezone(tz).utcoffset():
        t += timedelta(minutes=30)
        if t.year > 2060:
            return after
    return (t - timedelta(minutes=65)).strftime("%Y-%m-%dT%H:%M")


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = [(z, e, a) for z, starts in CHANGES.items() for a in starts for e in AROUND]
    rows += [(z, e, just_before(z, a)) for z, starts in CHANGES.items() if z != "UTC" for a in starts
             for e in AROUND if Cron(e).star[1]] + MORE
    with open(folder / "cron_cases.h", "w", encoding="ascii") as f:
        f.write("/* Written by cron_cases.py: zone, expression, after, and when it fires then (0: none of interest). */\n")
        f.write("/* clang-format off */\n#pragma once\n\n#include <stdint.h>\n\nenum { CRON_FIRINGS = 5 };\n")
        f.write("static const struct cron_case {\n\tconst char *zone, *cron;\n\tint64_t after, fires[CRON_FIRINGS];\n")
        f.write("} cron_cases[] = {\n")
        for zone, expr, after in rows:
            start = datetime.fromisoformat(after).replace(tzinfo=timezone.utc)
            got = firings(zone, expr, start, 5, 800)
            got += [0] * (5 - len(got))
            f.write(f'\t{{"{zone}", "{expr}", {int(start.timestamp())}, {{{", ".join(map(str, got))}}}}},\n')
        f.write("};\n")
    for zone in CHANGES:
        for place in TZPATH:
            source = pathlib.Path(place) / zone
            if zone != "UTC" and source.exists():
                target = folder / "zones" / zone
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                break


if __name__ == "__main__":
    main()
