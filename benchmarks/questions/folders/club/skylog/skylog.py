"""skylog: the logbook of the Brackenfell Astronomy Society. One file, no dependencies."""

import argparse
import csv
import json
import os
import pathlib
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).parent
LOCK_SECONDS = 60


def settings():
    """The settings beside the program, with those of the home folder on top."""
    merged = {}
    for path in (HERE / "settings.toml", pathlib.Path.home() / ".skylog.toml"):
        if path.exists():
            for section, values in tomllib.loads(path.read_text()).items():
                merged.setdefault(section, {}).update(values)
    return merged


def data_file(conf):
    return pathlib.Path(os.environ.get("SKYLOG_DATA") or HERE / conf["general"]["data_file"])


def limiting_magnitude(sky, aperture_mm, experience=1.0):
    """The faintest star to be seen, from the sky's brightness and the aperture.

    Rule of thumb of Dr Hartwig: 2 + 5 log10(aperture) for a sky of 21.0; every magnitude of the
    sky counts for 0.6, and a practised eye wins up to half a magnitude.
    """
    import math

    return 2 + 5 * math.log10(aperture_mm) + 0.6 * (sky - 21.0) + 0.5 * (experience - 1.0)


def add(conf, entry):
    lock = HERE / "skylog.lock"
    waited = 0
    while lock.exists():
        if waited >= LOCK_SECONDS:
            sys.exit("log is locked")
        time.sleep(1)
        waited += 1
    if entry["instrument"] not in conf["instruments"]["names"]:
        sys.exit("unknown instrument: " + entry["instrument"])
    lock.touch()
    try:
        with data_file(conf).open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
    finally:
        lock.unlink()


def check(conf):
    """Complaints about the log, one a line; the exit status is their number, 99 at most."""
    found = 0
    for number, line in enumerate(data_file(conf).read_text(encoding="utf-8").splitlines(), 1):
        entry = json.loads(line)
        if entry.get("end") and entry["end"] < entry["start"]:
            print(f"line {number}: ends before it starts")
            found += 1
        if entry.get("sky") and not conf["quality"]["sky_min"] <= entry["sky"] <= conf["quality"]["sky_max"]:
            print(f"line {number}: sky {entry['sky']} cannot be")
            found += 1
    return min(found, 99)


def export(conf, kind):
    rows = [json.loads(line) for line in data_file(conf).read_text(encoding="utf-8").splitlines()]
    if kind == "csv":
        writer = csv.DictWriter(sys.stdout, sorted({key for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)
    else:
        json.dump(rows, sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["add", "list", "export", "check"])
    parser.add_argument("--observer")
    parser.add_argument("--object")
    parser.add_argument("--instrument")
    parser.add_argument("--start", default=time.strftime("%Y-%m-%dT%H:%M", time.gmtime()))
    parser.add_argument("--format", default="csv", choices=["csv", "json"])
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    conf = settings()
    if options.command == "add":
        names = ("observer", "object", "instrument", "start")
        add(conf, {name: getattr(options, name) or input(name + ": ") for name in names})
    elif options.command == "check":
        sys.exit(check(conf))
    elif options.command == "export":
        export(conf, options.format)
    else:
        since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - options.days * 86400))
        for line in data_file(conf).read_text(encoding="utf-8").splitlines():
            if json.loads(line)["start"] >= since:
                print(line)
