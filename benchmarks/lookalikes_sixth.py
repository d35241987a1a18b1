"""Six more kinds of look-alikes, written by somebody who had not read the rules of the search.

Delivery notes of a builders' merchant (mail), laboratory results of patients (HTML), daily records
of a public swimming pool, operating procedures of a clinic in several versions (Markdown),
calibration certificates of torque tools (plain text) and vehicle inspections, where the same plate
comes back in other years (HTML).

- People write a key otherwise than the document does: "DN 204 817" and DN204817, "Müller, Hans" and
  "hans mueller", 14.05.2019 and "May 14, 2019", "HYG-014, version 3.2" and "hyg014 v3.2". The
  wordings name such a form after a colon, as in ``{key:joined}``.
- Every page has values of the sort that is asked for which are not the one asked for (net and gross
  weight, the reading this year and the last), and half of them or more mention another document.
- A value that is asked for stands in no other document of 500. Of 5,000, a few people who are asked
  for also stand in another one, in another place or kind.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from itertools import islice

from lookalikes_data import Template, draw_keys, draw_part, serial, words

__all__ = ["SIXTH"]

_FIRST = words("""
    Adèle Aino Alois Anneke Arvid Astrid Axel Beata Benedikt Bjarne Brigitte Carsten Cécile Dagmar
    Diego Dietmar Doris Elke Emre Erik Esther Fatma Ferdinand Florian Friederike Gaëlle Gesine
    Gisela Gunnar Hans Heike Heinz Helene Holger Ines Jana Jörg Jürgen Kaja Karim Kerstin Kurt Lars
    Lena Linus Ludwig Maike Malte Margit Mehmet Merle Moritz Nele Noémie Okke Orla Pascal Philipp
    Ragnhild Renate René Rolf Rüdiger Sanne Silke Sören Susanne Tanja Theo Till Torsten Ursula Uwe
    Valérie Vincent Wanda Wiebke Xaver Yusuf Zoë
""")
_LAST = words("""
    Ahrens Bähr Bär Baumann Behrens Björk Borowski Bruns Brückner Claassen Çelik Diekmann Döring
    Eggers Ernst Falk Feldhaus Förster Franke Fröhlich Gärtner Gerdes Götz Groß Günther Haas Hübner
    Husmann Jäger Janßen Jürgens Kästner Kessler Köhler König Krämer Krüger Kühn Lange Lehnert
    Löffler Lüders Mayer Möller Müller Neumann Nowak Oltmanns Özdemir Peters Pohl Prévost Rasch
    Reuter Richter Röder Rößler Sauer Schäfer Schön Schröder Schulte Schütz Seidel Sørensen Stark
    Strauß Stüve Thiel Tietjen Töpfer Ulrich Vogt Voß Wächter Wagner Weiß Wolf Wulff Zöller
""")
# Of staff, so that no member of staff is a patient.
_STAFF = words("""
    Abernathy Ainsworth Barlow Birkett Braithwaite Cathcart Coldwell Croft Dunmore Eastwood Fairfax
    Featherstone Gladwin Greaves Haddon Hargreaves Heathcote Ibbotson Kirkby Lockwood Lytton Marsden
    Metcalfe Naylor Ormerod Pemberton Priestley Radcliffe Rawson Royle Satterfield Selby Shackleton
    Stanhope Tattersall Thackeray Thistlewood Tolland Vickers Wainwright Walmsley Wetherby Whitlock
    Wolfenden Worsley Yardley
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")


class _Said(str):
    """A key as documents write it; a format after a colon writes it as people do."""

    def __format__(self, form: str) -> str:
        return _FORMS[form](str(self)) if form else str(self)


def _folded(name: str) -> str:
    """As on a keyboard without umlauts."""
    for sign, written in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss"), ("ø", "o")):
        name = name.replace(sign, written).replace(sign.upper(), written.title())
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def _day(said: str) -> date:
    day, month, year = map(int, said.split("."))
    return date(year, month, day)


def _long(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _ordinal(day: int) -> str:
    return f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def _month(said: str) -> str:
    return _MONTHS[_day(said).month - 1]


_FORMS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "joined": lambda said: re.sub(r"\W", "", said),
    "joined_lower": lambda said: re.sub(r"\W", "", said).lower(),
    "spaced": lambda said: re.sub(r"\W+", " ", said),
    "dashed": lambda said: said.replace(" ", "-", 1).replace(" ", ""),
    "digits": lambda said: re.sub(r"\D", "", said),
    "grouped": lambda said: said.removeprefix("DN "),
    "called": lambda said: " ".join(reversed(said.split(", "))),
    "typed": lambda said: _folded(" ".join(reversed(said.split(", ")))).lower(),
    "filed": lambda said: _folded(said),
    "iso": lambda said: _day(said).isoformat(),
    "long": lambda said: _long(_day(said)),
    "month_first": lambda said: f"{_month(said)} {_day(said).day}, {_day(said).year}",
    "ordinal": lambda said: f"{_ordinal(_day(said).day)} of {_month(said).lower()} {said[-4:]}",
    "weekday": lambda said: f"{_day(said):%A}, {_long(_day(said))}",
    "short": lambda said: f"{_day(said).day}.{_day(said).month}.{said[-2:]}",
    "procedure": lambda said: said.replace("-", "").replace(", version ", " v").lower(),
    "procedure_spaced": lambda said: said.replace("-", " ").replace(", version", ""),
    "plate": lambda said: said.partition(" / ")[0].lower(),
    "plate_spaced": lambda said: said.partition(" / ")[0].replace("-", " "),
    "plate_joined": lambda said: re.sub(r"\W", "", said.partition(" / ")[0]),
}


def _person(c: random.Random) -> str:
    return f"{c.choice(_FIRST)} {c.choice('ABCDEFGHIJKLMNOPRSTUVW')}. {c.choice(_STAFF)}"


def _date(c: random.Random, year: str) -> str:
    return f"{c.randrange(1, 29)} {c.choice(_MONTHS)} {year}"


def _money(c: random.Random, thousands: int = 9) -> str:
    return f"€ {c.randrange(1, thousands + 1)},{c.randrange(100, 1000)}.{c.randrange(100):02}"


def _count(number: int) -> str:
    return f"{number:,}"


def _some(c: random.Random, among: Sequence[str], count: int) -> str:
    return " ".join(c.sample(among, count))


def _paragraphs(c: random.Random, among: Sequence[str], *counts: int) -> list[str]:
    drawn = iter(c.sample(among, sum(counts)))
    return [" ".join(islice(drawn, count)) for count in counts]


@cache
def _drawn(template: str) -> list[str]:
    [of_name] = [each for each in SIXTH if each.name == template]
    return [of_name.said(key) for key in islice(draw_keys(of_name), 400)]


def _other(template: str, key: str, c: random.Random) -> str:
    """Another document's key; it is in all but the smallest corpora."""
    return c.choice([said for said in _drawn(template) if said != key])


def _html(title: str, body: Sequence[str]) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        "</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in table)


_GOODS = words("""
    plasterboard_12.5_mm roofing_battens cement_25_kg sand_0-2_mm insulation_wool_160_mm
    lintel_1.25_m paving_slabs_grey drainage_pipe_DN110 vapour_barrier tile_adhesive_C2
    concrete_block_24_cm spruce_beam_8x16 OSB_board_18_mm gravel_8-16_mm mortar_bag skirting_oak
""")
_DELIVERED = (
    "Please check the goods for damage while the driver is still there and have anything that is "
    "broken or missing written on the copy that he takes back with him.",
    "The lorry has a crane with a reach of eleven metres; the ground where it stands has to carry "
    "eighteen tonnes, and no cable may hang above it.",
    "Euro pallets are charged at the usual deposit and credited in full when they come back within "
    "three months in a state in which they can be used again.",
    "Bags of cement and adhesive have to be kept dry and off the floor; we cannot take back any "
    "that have been stored outside, even under a sheet.",
    "What could not be loaded today follows with the next tour to your area without further cost, "
    "and you will hear from our dispatch office the evening before.",
    "Boards were strapped in two bundles with edge protection. The straps are ours and may stay on "
    "until the bundles are opened.",
    "Because the street is closed for resurfacing the driver came in through the yard of the "
    "neighbouring bakery, as had been agreed by telephone.",
    "Surplus goods can be returned within four weeks in unopened packs; we keep fifteen per cent "
    "of their value for handling and inspection.",
    "The colour of natural stone varies from one pallet to the next. Please mix slabs from several "
    "pallets when you lay them, as complaints afterwards cannot be settled.",
    "Timber was measured at loading with a moisture content below eighteen per cent, and the "
    "certificate of origin is in the pocket on the first bundle.",
    "The bill follows at the end of the week and covers all deliveries to this site; this note is "
    "not a bill and no payment is made to the driver.",
    "For the next delivery we would be glad of a person on site who can show the driver where to "
    "put things down, since he waited for twenty minutes this time.",
)


def _delivery(key: str, v: dict[str, str], c: random.Random) -> str:
    other, gross = _other("delivery note", key, c), float(v["gross weight"][:-3].replace(",", ""))
    net = f"{gross - c.randrange(600, 4000) / 10:,.1f} kg"
    rows = [
        f"{n:>3}  {name.replace('_', ' '):26}{c.randrange(2, 140):>5}  {c.choice(('pc', 'pack'))}"
        for n, name in enumerate(c.sample(_GOODS, c.randrange(5, 10)), 1)
    ]
    mention = c.choice((
        f"The two rolls that were missing from {other} are on this lorry as well and are not "
        "listed below.",
        f"See also {other}, which went to your other site on the same tour.",
        "",
        "",
    ))  # fmt: skip
    first, second = _paragraphs(c, _DELIVERED, 3, 4)
    buyer = c.choice(("Holtmann Bau", "Zimmerei Erdwig", "Dachwerk Nord", "Gartenbau Lenz"))
    sender, year = _person(c), c.randrange(2016, 2025)
    subject = c.choice((f"Delivery note {key}", f"Your goods are on the way ({key})", key))
    return f"""From: Dispatch <dispatch@merchant.example>
To: {buyer} <site@{buyer.split()[0].lower()}.example>
Subject: {subject}
Date: {c.randrange(1, 29)} {c.choice(_MONTHS)[:3]} {year} {c.randrange(6, 18):02}:{c.randrange(60):02}:00 +0100
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Dear customer,

this is the copy of delivery note {key} for your files. The goods left our yard with {_person(c)} at the wheel and reached your site {c.choice(("in the morning", "shortly after noon", "in the late afternoon"))}. {mention}

{first}

Pos  Article                    Quantity
{chr(10).join(rows)}

Net weight of the goods: {net}
Gross weight with pallets and packing: {v["gross weight"]}
Value of the goods without tax: {v["value of the goods"]}
Deposit on pallets: € {c.randrange(20, 200)}.00

{second}

The goods were received complete and signed for on site by {v["signed for"]}. If that is not somebody of yours, please tell us within two working days.

With kind regards
{sender}
Dispatch office
"""  # noqa: E501


_FINDINGS = (
    "The sample reached the laboratory within four hours of being taken, was not haemolytic, and "
    "was centrifuged at once, so that all values can be relied on.",
    "What counts as usual depends on age and sex; the range in the third column is the one that "
    "holds for this patient, and it was last revised two years ago.",
    "A mildly raised value of a single enzyme without complaints is frequent and should be checked "
    "once more after four to six weeks without alcohol and strenuous exercise.",
    "If the patient takes biotin in high doses, it should be stopped two days before the next "
    "sample, as it disturbs several of the immunological methods used here.",
    "The patient had eaten before the sample was taken, which has to be borne in mind when the "
    "triglycerides and the glucose are judged.",
    "The count of blood cells was repeated on a second instrument with the same outcome, and a "
    "smear was looked at under the microscope without anything that stands out.",
    "Thyroid values are without anything remarkable. A new check is needed only if there are "
    "complaints or the medication is changed.",
    "Iron stores should always be judged together with the inflammation marker, since they may "
    "seem to be well filled while an infection lasts.",
    "The methods marked with an A are accredited under the standard for medical laboratories; the "
    "uncertainty of measurement is available on request.",
    "The rest of the sample is kept cool for seven days, and further analyses may be ordered by "
    "telephone within that time.",
    "Creatinine is within the range, and the filtration rate estimated from it gives no hint of "
    "a loss of kidney function at this time.",
    "We recommend a further sample in the morning, after twelve hours without food, before "
    "treatment with a statin is considered.",
)
_ANALYTES = (
    ("haemoglobin", "g/dL", 11, 17, "12.0 to 17.5"),
    ("leukocytes", "10⁹/L", 4, 11, "4.0 to 10.0"),
    ("potassium", "mmol/L", 3, 6, "3.5 to 5.1"),
    ("creatinine", "µmol/L", 50, 120, "45 to 104"),
    ("GPT", "U/L", 10, 80, "below 50"),
    ("gamma-GT", "U/L", 10, 90, "below 60"),
    ("CRP", "mg/L", 0, 20, "below 5.0"),
    ("TSH", "mU/L", 0, 5, "0.4 to 4.0"),
    ("HbA1c", "%", 4, 8, "below 5.7"),
    ("LDL cholesterol", "mmol/L", 1, 5, "below 3.0"),
    ("uric acid", "mg/dL", 3, 9, "below 7.0"),
)


def _lab(key: str, v: dict[str, str], c: random.Random) -> str:
    other = _other("lab result", key, c)
    rows = [
        (name, f"{c.uniform(low, high):.1f} {unit}", usual)
        for name, unit, low, high, usual in c.sample(_ANALYTES, c.randrange(6, 11))
    ]
    rows.insert(c.randrange(len(rows)), ("ferritin", v["ferritin"], "30 to 400"))
    mention = c.choice((
        f"The sample came in the same bag as that of {other}; the labels were checked.",
        f"This report replaces one that was sent out by mistake with the cover sheet of {other}.",
        "",
    ))  # fmt: skip
    first, second, third = _paragraphs(c, _FINDINGS, 2, 3, 2)
    year = c.choice(("2021", "2022", "2023", "2024"))
    head = [
        ("Patient", key),
        ("Born", _date(c, str(c.randrange(1931, 2004)))),
        ("Sample taken", f"{_date(c, year)}, {c.randrange(7, 12)}:{c.randrange(10, 60)}"),
        ("Material", c.choice(("serum and EDTA blood", "serum, EDTA and citrate blood"))),
        ("Sample number", v["sample number"]),
    ]
    # Some say the name in the title, some only at the top of the page.
    title = c.choice((f"Laboratory report, {key}", "Laboratory report"))
    return _html(
        title,
        [
            "<h1>Laboratory report</h1>",
            _html_table(("Field", "Entry"), head),
            f"<p>Dear colleague, thank you for referring this patient to us. {mention} {first}</p>",
            "<h2>Values</h2>",
            _html_table(("Analysis", "Result", "Reference"), rows),
            f"<p>{second}</p>",
            "<h2>Assessment</h2>",
            f"<p>{third} The analyses were ordered by Dr. {v['ordered by']}, who also receives the "
            f"report by post; they were validated by Dr. {_person(c)} and released on the day "
            "after the sample came in. The former sample was number "
            f"{c.choice('BDF')}-{c.randrange(1_000_000, 10_000_000)}.</p>",
            "<p>This report was made by machine and is valid without a signature. It may be passed "
            "on only as a whole, and values from other laboratories may differ because they use "
            "other methods.</p>",
        ],
    )


_POOL = (
    "The water in the children's basin was cloudy in the morning; a filter was washed back and the "
    "basin could be opened with a delay of half an hour.",
    "Two classes of the primary school came for their lessons and used lanes one to three until "
    "noon, while the rest stayed open to the public.",
    "A guest slipped on the steps to the slide and was given an ice pack. He did not want a "
    "doctor, and an entry was made in the book of accidents.",
    "The dosing pump for acid stopped twice. The hose was cleaned, and the firm that services it "
    "has been asked to come before the weekend.",
    "In the evening the swimming club trained in all six lanes; the keys were handed back at the "
    "desk by the coach and the alarm was set.",
    "Hair and leaves were fetched from the overflow channels with the net, and the floor of the "
    "deep basin was gone over by the robot during the night.",
    "One shower in the ladies' changing room drips. A washer was ordered; until it comes the valve "
    "below the sink stays closed and a sign has been put up.",
    "Samples for the public health office were taken at three places by its own staff and carried "
    "away in a cool box; the findings will follow by post.",
    "The sauna was heated from two o'clock. The door closes badly, and the joiner who made it has "
    "been reminded once more of his promise.",
    "The whistle test and the drill with the spine board were done before opening with all who "
    "were on duty, and took eleven minutes.",
    "Lost property: a blue towel, a pair of goggles and one left shoe. All are in the box at the "
    "desk and are kept for four weeks.",
    "The ticket machine gave out no change after five, so that late guests were let in for the "
    "reduced price, which was noted by hand.",
)


def _pool(key: str, v: dict[str, str], c: random.Random) -> str:
    other, closing = _other("pool record", key, c), float(v["meter"][:-3].replace(",", ""))
    rows = [
        (
            f"{hour}:00",
            f"{c.uniform(0.3, 0.7):.2f}",
            f"{c.uniform(0.05, 0.25):.2f}",
            f"{c.uniform(6.8, 7.5):.1f}",
            f"{c.uniform(26, 29):.1f}",
            str(c.randrange(690, 790)),
        )
        for hour in range(7, 21, 2)
    ]
    mention = c.choice((
        f"The fault is the same as the one noted on {other} and has not been mended since.",
        f"The entry of {other} was corrected today: the filter had been washed back then as well.",
        "",
        "",
    ))  # fmt: skip
    first, second = _paragraphs(c, _POOL, 3, 4)
    opening = f"{closing - c.randrange(300, 900) / 10:,.1f} m³"
    head = c.choice((
        f"# Daily record, {key}",
        f"# Daily record\n\n{_day(key):%A}, {key}",
    ))  # fmt: skip
    return f"""{head}

Municipal indoor pool, main building. This sheet is kept by the attendant on duty, closed in the evening, and filed for ten years. {c.randrange(110, 900)} guests were counted at the gate, {c.randrange(20, 100)} of them with season tickets.

## Water

{_pipes(("time", "free chlorine mg/l", "bound chlorine mg/l", "pH", "°C", "redox mV"), rows)}

All values were measured by hand with the photometer and compared with those on the display. They are within the limits of the standard for pool water unless a remark is made below.

## Events

{first} {mention}

{second}

## Closing

- Fresh water meter at opening: {opening}
- Fresh water meter at closing: {v["meter"]}
- Takings at the desk, cash: {_money(c, 4)}
- Takings at the desk, all together: {v["takings"]}
- Early shift: {_person(c)}
- Late shift, who locked up: {v["locked up"]}
- Chlorine in stock: {c.randrange(3, 30)} canisters; granulate: {c.randrange(40, 300)} kg

The sheet was read and signed by the head of the pool on the following working day. Notes in pencil do not count, and nothing may be erased: what is wrong is crossed out so that it can still be read.
"""  # noqa: E501


_STEPS = (
    "Put on gloves, apron and goggles before the bottle is opened, and make sure that the eyewash "
    "at the sink works and is not blocked by boxes.",
    "Check the label of every container against the list, and set aside what is out of date; it is "
    "returned to the store and never poured away.",
    "Switch the device off at the wall, wait until the rotor stands still, and open the lid only "
    "then; forcing the lock damages the sensor.",
    "Wipe from the clean to the soiled side in lines that overlap, with a fresh cloth for every "
    "surface, and do not dry what has to act while wet.",
    "Let the solution act for the full time on the label. If the surface dries before, it is "
    "wetted again and the time starts from the beginning.",
    "Enter the time, the batch and your initials in the list on the door at once, not at the end "
    "of the shift, and leave no field empty.",
    "Whoever finds a deviation stops the work, informs the person in charge, and writes it down on "
    "the yellow form before going on.",
    "New staff carry out the work three times under the eyes of somebody with experience before "
    "they do it alone, and both of them sign for it.",
    "Waste goes into the yellow bag, sharp things go into the box with the red lid, and neither is "
    "filled to more than three quarters.",
    "The temperature of the fridge is read in the morning and in the evening. Above eight degrees "
    "the pharmacy is called, and nothing is given out until it has answered.",
    "After spills the area is closed off, covered with the granulate from the emergency set, and "
    "cleaned only when nothing moves any more.",
    "Printed copies are valid only on the day on which they were printed; the version in the "
    "document system is the one that counts.",
    "The patient is asked for name and date of birth in open questions, and both are compared with "
    "the wristband and with the label.",
)
_SUBJECTS = words("""
    cleaning_of_centrifuges hand_disinfection storage_of_vaccines labelling_of_samples
    checking_the_emergency_trolley disposal_of_sharps reprocessing_of_endoscopes
    handling_of_cytostatics calibration_of_pipettes taking_blood_cultures care_of_catheters
    transport_of_specimens admission_of_visitors release_of_sterile_goods
""")
_IDS = [f"{area}-{n:03}" for area in words("HYG PHA LAB STE NUR") for n in range(3, 99, 3)]


def _procedure(key: str, v: dict[str, str], c: random.Random) -> str:
    number, version = key.split(", version ")
    subject = _SUBJECTS[_IDS.index(number) % len(_SUBJECTS)].replace("_", " ")
    major, minor = map(int, version.split("."))
    before = f"{major}.{minor - 1}" if minor else f"{major - 1}.5"
    supersedes = "It is the first of its kind."
    if before != "0.5":
        supersedes = f"It supersedes {number}, version {before}, which is to be destroyed."
    other, year = _other("operating procedure", key, c), str(c.randrange(2015, 2025))
    see = c.choice((f"See also {other}.", f"Terms are explained in {other}.", ""))
    steps = c.sample(_STEPS, 9)
    listed = "\n".join(f"{n}. {step}" for n, step in enumerate(steps[:7], 1))
    changes = c.choice(("the time of action", "the list of forms", "the person in charge"))
    title = subject.capitalize()
    head = c.choice((
        f"# {number}: {title}\n\nVersion {version}",
        f"# {title}\n\nStandard operating procedure {key}",
        f"# Standard operating procedure {key}\n\n{title}",
    ))  # fmt: skip
    rows = [
        ("written by", _person(c), _date(c, year)),
        ("checked by", _person(c), _date(c, year)),
        ("approved by", v["approved by"], _date(c, year)),
    ]
    return f"""{head}

In force from 1 January {int(year) + 1} in all wards and in the day clinic. {supersedes} {see}

## Purpose

This procedure says how {subject} is done in this house, so that it is done in the same way by everybody, at all hours, and can be traced afterwards. It holds for employed staff, for students and for those who are sent by agencies.

## Procedure

{listed}

{steps[7]}

## Costs and filing

Material for this procedure was reckoned at {v["yearly cost"]} a year for the whole house, after {_money(c)} in the year before. The signed original is kept in archive box {v["archive box"]}; the copies are in the folders of the wards. Changed since the last version: {changes}.

{steps[8]}

## Release

{_pipes(("step", "name", "date"), rows)}

Every two years it is looked through by those who wrote it, or earlier, if the law, the devices or the agents change. Suggestions are sent to the quality office with the form for improvements, and an answer is given within a month. Whoever departs from what is written here has to be able to say why, and notes it in the record of the patient or of the device.
"""  # noqa: E501


_CALIBRATED = (
    "The tool was kept in the measuring room for twelve hours before the work began, so that it "
    "had taken on its temperature.",
    "It was loaded three times to its highest value without a reading being taken, in order to let "
    "the spring and the pawl settle.",
    "Five readings were taken at each of the steps, always from below and without jerks, by means "
    "of the motor-driven bench.",
    "The reference transducer was traced back to the national standard in the spring of this year "
    "and has been compared with its twin every week.",
    "The ratchet has some play, which does not touch the measurement but should be looked after "
    "when the tool is next taken apart.",
    "The scale is worn at its lower end. Values below a fifth of the highest one should no longer "
    "be set with this tool.",
    "The grip had been wrapped with tape by the customer; it was taken off, since the point of "
    "load was hidden by it, and was not put back.",
    "A tool that has been dropped, overloaded or lent to others is to be sent in again, however "
    "recent this certificate may be.",
    "After use the tool is to be set back to its lowest value and laid in its case, away from oil "
    "and from the heater.",
    "The interval of twelve months or five thousand cycles is a recommendation; the owner is free "
    "to choose a shorter one.",
    "The statement of conformity takes the uncertainty into account in such a way that the chance "
    "of wrong acceptance stays below two and a half per cent.",
    "No parts had to be replaced. The mechanism was cleaned and given a drop of the grease that "
    "its maker names.",
)
_DRAW_SERIAL = draw_part("0AA-00000-A")


def _certificate(key: str, v: dict[str, str], c: random.Random) -> str:
    other, top = _other("calibration certificate", key, c), c.choice((40, 60, 100, 200, 340))
    rows = [
        f"{top * share / 100:>12.1f}{top * share / 100 + c.uniform(-1, 1):>14.2f}"
        f"{c.uniform(0.3, 2.0):>14.2f}{c.uniform(0.4, 1.1):>12.2f}"
        for share in (20, 40, 60, 80, 100)
    ]
    mention = c.choice((
        f"The bench is the one on which {other} had been measured the day before.",
        f"The owner's other tool, {other}, has a certificate of its own.",
        "",
    ))  # fmt: skip
    first, second, third = _paragraphs(c, _CALIBRATED, 2, 4, 3)
    tool = c.choice(("torque wrench", "torque screwdriver", "pneumatic nutrunner", "dial wrench"))
    owner = c.choice(("Bootswerft Ahlers", "Radwerk Sülz", "Windpark Service Ost", "Kfz Brandis"))
    return f"""CALIBRATION CERTIFICATE

Object           {tool}, highest value {top} N·m
Serial number    {key}
Owner            {owner}
Received         {_date(c, "2023")}
Calibrated       {_date(c, "2024")}
Room             {c.uniform(19.5, 22):.1f} °C, {c.randrange(38, 58)} % humidity
Method           ISO 6789-2, type II class A

1. As received
{first} {mention}
Before adjustment, the deviation at the highest value was {c.choice("+-")}{c.randrange(1, 4)}.{c.randrange(1000, 10000)} N·m, which is more than the owner allows. The seal that was on the tool, {c.randrange(10, 100)}/{c.randrange(10_000, 100_000)}, was unbroken and has been taken off.

2. Measurement
{second}

   set (N·m)   mean (N·m)   spread (%)   U (k=2, %)
{chr(10).join(rows)}

3. Result
After adjustment, the deviation at the highest value was {v["deviation after adjustment"]}. The tool keeps within the limits of its class at all steps. It was closed with the new seal {v["new seal"]}, and it loses its calibration when that is broken.

{third}

The measurements were made by {v["measured by"]}; the certificate was checked and released by {_person(c)}. It may not be copied in part without written leave of the laboratory. The results hold only for the object named above and in the state in which it was received; statements about how it will behave later are not meant by them. Complaints are taken within thirty days, and the raw readings are kept for six years under the serial number of the tool.
"""  # noqa: E501


_ROADWORTHY = (
    "The brake pipes at the rear axle have begun to rust on the outside. They still hold the "
    "pressure but should be treated before the next winter.",
    "The handbrake pulls more on the left than on the right; the difference is within what is "
    "allowed and was adjusted by the workshop on the spot.",
    "The low beam on the right was set too high and dazzled others. It was corrected during the "
    "inspection at no cost.",
    "The tyres at the front are down to three millimetres, which is legal but should be kept in "
    "mind before longer journeys in the rain.",
    "An oil film was found at the lower side of the gearbox. Nothing drips, so it was noted as a "
    "hint and not as a defect.",
    "The exhaust is held by one rubber that has cracked. The driver was told, and it was replaced "
    "in the yard while the papers were being written.",
    "The windscreen has a chip outside the field of view of the driver, which was looked at with "
    "the gauge and found to be acceptable.",
    "The first-aid kit had run out at the end of last year and was exchanged for a new one that "
    "was bought at the desk.",
    "The tow bar is entered in the papers and has been tested with the trailer socket; all lights "
    "of the trailer answered as they should.",
    "The ball joint at the front left has a little play, measured with the shaker plates, and is "
    "to be watched.",
    "Fault memory of the engine control was read out and was empty; all monitors that matter for "
    "the exhaust had been run through.",
    "The number on the frame was compared with the papers and is easy to read after a bit of wax "
    "was wiped off.",
    "The load floor has a dent with a sharp edge, which was covered so that nobody is hurt while "
    "loading.",
)
_PLATES = [
    f"KN-{a}{b} {(17 * n + 31 * m) % 890 + 105}"
    for n, a in enumerate("ABCDEFGHJKLMNPRSTUV")
    for m, b in enumerate("ACDEFHJKLMNPRSTUVWXZ")
]


def _vehicle(key: str, v: dict[str, str], c: random.Random) -> str:
    plate, year = key.split(" / ")
    same = [said for said in _drawn("vehicle inspection") if said.startswith(plate) and said != key]
    other = c.choice(same) if same else _other("vehicle inspection", key, c)
    reading = int(v["odometer"][:-3].replace(",", ""))
    before = f"{_count(reading - c.randrange(9_000, 48_000))} km"
    rows = [
        (part, c.choice(("in order", "in order", "in order", "minor defect", "hint")))
        for part in (
            "service brake", "parking brake", "steering", "lights and signals", "axles and wheels",
            "chassis and body", "exhaust", "equipment", "visibility",
        )
    ]  # fmt: skip
    mention = c.choice((f"See also the report {other}.", f"Compare report {other}.", ""))
    first, second = _paragraphs(c, _ROADWORTHY, 4, 4)
    sort = c.choice(("panel van", "minibus", "flatbed lorry", "estate car", "workshop van"))
    head = [
        ("Registration", plate),
        ("Day of the inspection", _date(c, year)),
        ("Sort of vehicle", f"{sort}, {c.choice(('diesel', 'petrol', 'gas'))}"),
        ("First registered", _date(c, str(int(year) - c.randrange(5, 12)))),
        ("Odometer at the last inspection", before),
        ("Odometer", v["odometer"]),
    ]
    title = c.choice((f"Inspection report {key}", f"{plate}: periodical inspection {year}"))
    return _html(
        title,
        [
            f"<h1>{title}</h1>",
            _html_table(("Field", "Entry"), head),
            "<p>The vehicle was presented by the fleet of the municipal works and inspected under "
            "the road traffic rules as a periodical technical inspection together with the test of "
            f"emissions. {mention}</p>",
            "<h2>Parts that were inspected</h2>",
            _html_table(("Part", "Finding"), rows),
            f"<p>{first}</p>",
            "<h2>Emissions and brakes</h2>",
            f"<p>Brake force front {c.uniform(2, 4):.2f} kN left and {c.uniform(2, 4):.2f} kN "
            f"right; rear {c.uniform(1, 3):.2f} kN left and {c.uniform(1, 3):.2f} kN right. "
            f"Opacity {c.uniform(0.02, 0.6):.2f} per metre at the limit of speed. {second}</p>",
            "<h2>Outcome</h2>",
            f"<p>The badge was given out. Its number is {v['badge number']}; the one that was "
            f"scraped off had the number {c.randrange(1_000_000, 10_000_000)} "
            f"{c.choice('PQR')}. The inspection was carried out by {v['inspector']}, and the "
            f"vehicle was handed over to {_person(c)} of the fleet.</p>",
            "<p>Minor defects are to be repaired without delay and need not be shown again. This "
            "report is to be carried in the vehicle until the next inspection and to be shown to "
            "the police or the registration office when they ask for it. It says in which state "
            "the vehicle was when it was seen and is no promise about the time after.</p>",
        ],
    )


SIXTH = (
    Template(
        "delivery note",
        "number",
        lambda c: (str(c.randrange(110_000, 990_000)),),
        lambda key: _Said(f"DN {key[0][:3]} {key[0][3:]}"),
        lambda c: {
            "gross weight": f"{c.randrange(2, 18)},{c.randrange(100, 1000)}.{c.randrange(10)} kg",
            "value of the goods": _money(c, 24),
            "signed for": _person(c),
        },
        lambda _, place: f"deliveries/{place:05}.eml",
        _delivery,
        {
            "gross weight": (
                "What is the gross weight on delivery note {key}?",
                "gross weight {key:joined}",
                "how heavy was delivery {key:digits} with pallets and packing",
                "{key:dashed} weight incl. pallets?",
                "The haulier wants to bill us by the tonne: what gross weight does our delivery "
                "note no. {key:digits} say?",
                "delivery note {key:grouped} weight gross kg",
            ),
            "value of the goods": (
                "What were the goods on delivery note {key} worth without tax?",
                "{key:lower} value of goods",
                "goods value, delivery note {key:digits}",
                "I need the net value of what came with {key:joined}.",
                "For the insurance: how much were the goods of delivery no. {key:grouped} worth "
                "before tax?",
                "value w/o tax {key:dashed}",
            ),
            "signed for": (
                "Who signed for delivery note {key} on site?",
                "who signed {key:joined_lower}",
                "delivery {key:digits} - who took it in?",
                "{key:dashed} received by",
                "The site manager says that he never saw the pallets of {key:joined}, so who "
                "signed for them?",
                "name of the person who accepted {key:grouped} (delivery note)",
            ),
        },
        distinct=True,
    ),
    Template(
        "lab result",
        "name",
        lambda c: (c.choice(_FIRST), c.choice(_LAST)),
        lambda key: _Said(f"{key[1]}, {key[0]}"),
        lambda c: {
            "ferritin": f"{c.randrange(112, 499)}.{c.randrange(100):02} ng/mL",
            "sample number": f"{c.choice('KLMNPRS')}-{c.randrange(1_000_000, 10_000_000)}",
            "ordered by": _person(c),
        },
        lambda _, place: f"results/{place:05}.html",
        _lab,
        {
            "ferritin": (
                "What is the ferritin of {key:called}?",
                "ferritin {key}",
                "{key:typed} ferritin",
                "how high was the ferritin in {key:called}'s blood test",
                "Ms Ahlborn from the ward is on the phone and would like to know the ferritin "
                "value that we found for the patient {key:called}.",
                "lab {key:filed} ferritin value?",
            ),
            "sample number": (
                "Which sample number does the lab report of {key:called} have?",
                "sample number {key:typed}",
                "sample no. {key}",
                "{key:filed}: number of the sample?",
                "We have to order one more test from the blood of {key:called}, under what number "
                "is the sample kept?",
            ),
            "ordered by": (
                "Which doctor ordered the blood test of {key:called}?",
                "who ordered labs for {key:typed}",
                "{key} referring doctor",
                "doctor who requested the analyses, patient {key:filed}",
                "To whom does the report on {key:called} go by post, who ordered it?",
                "{key:lower} lab report ordered by",
            ),
        },
        distinct=True,
    ),
    Template(
        "pool record",
        "date",
        lambda c: (
            str(c.randrange(1, 29)),
            c.choice(_MONTHS),
            str(c.randrange(2009, 2025)),
        ),
        lambda key: _Said(f"{int(key[0]):02}.{_MONTHS.index(key[1]) + 1:02}.{key[2]}"),
        lambda c: {
            "meter": f"{c.randrange(102, 980)},{c.randrange(100, 1000)}.{c.randrange(10)} m³",
            "takings": _money(c, 24),
            "locked up": _person(c),
        },
        lambda _, place: f"pool/{place:05}.md",
        _pool,
        {
            "meter": (
                "What did the fresh water meter of the pool show at closing on {key:long}?",
                "pool water meter closing {key:iso}",
                "meter reading in the evening, {key}",
                "fresh water meter pool {key:month_first} at closing time",
                "The utility doubts our figures: which closing reading of the fresh water meter "
                "was written down on {key:weekday}?",
                "{key:short} closing meter reading pool",
            ),
            "takings": (
                "How much did the pool take in all together on {key:long}?",
                "takings {key}",
                "pool total takings {key:iso}",
                "what were the whole takings at the pool desk on the {key:ordinal}",
                "{key:month_first} takings all together",
                "For the audit, please give me the total takings of the indoor pool for "
                "{key:weekday}.",
            ),
            "locked up": (
                "Who locked up the pool on {key:long}?",
                "who had the late shift {key:short}",
                "late shift pool {key:iso}",
                "who closed the pool in the evening of the {key:ordinal}?",
                "The alarm went off in the night after {key:month_first}. Who had locked up?",
                "{key} late shift",
            ),
        },
        distinct=True,
    ),
    Template(
        "operating procedure",
        "version",
        lambda c: (c.choice(_IDS), f"{c.randrange(1, 5)}.{c.randrange(6)}"),
        lambda key: _Said(f"{key[0]}, version {key[1]}"),
        lambda c: {
            "approved by": _person(c),
            "archive box": f"{c.randrange(100, 1000)}-{c.choice('EGTW')}{c.randrange(100, 1000)}",
            "yearly cost": _money(c, 48),
        },
        lambda key, _: f"procedures/{key[0].lower()}_{key[1].replace('.', '-')}.md",
        _procedure,
        {
            "approved by": (
                "Who approved {key}?",
                "{key:procedure} approved by",
                "who signed off version {1} of sop {0}",
                "approver SOP {key:procedure_spaced}",
                "The inspectors ask whose approval is on the procedure {0} in its version {1}, can "
                "you find the name?",
                "{key:lower} approval name",
            ),
            "archive box": (
                "In which archive box is the signed original of {key}?",
                "archive box {key:procedure}",
                "where is the signed original of {0} ver. {1}",
                "{key:procedure_spaced} box number archive",
                "I have to fetch the paper original of version {1} of the procedure {0} from the "
                "cellar: which box?",
            ),
            "yearly cost": (
                "What does the material for {key} cost a year?",
                "material cost per year {key:procedure}",
                "how expensive is {0} according to version {1}, yearly",
                "{0} ({1}) cost of material",
                "In the budget round somebody quoted version {1} of {0}; which sum for material "
                "is reckoned in it for a year?",
            ),
        },
        distinct=True,
    ),
    Template(
        "calibration certificate",
        "part",
        _DRAW_SERIAL,
        lambda key: _Said(key[0]),
        lambda c: {
            "deviation after adjustment": f"{c.choice('+-')}0.{c.randrange(10_000):04} N·m",
            "new seal": f"{c.randrange(10, 100)}/{c.randrange(10_000, 100_000)}",
            "measured by": _person(c),
        },
        serial("certificates"),
        _certificate,
        {
            "deviation after adjustment": (
                "What was the deviation of {key} at the highest value after adjustment?",
                "deviation after adjustment {key:joined}",
                "{key:spaced} deviation adjusted",
                "how far off was the torque tool with serial no. {key} once it had been adjusted?",
                "Our customer wants the remaining deviation, after adjustment, of the tool "
                "{key:joined_lower} for his file.",
                "s/n {key:lower} deviation at full scale after adjusting",
            ),
            "new seal": (
                "Which new seal was put on {key}?",
                "new seal number {key:joined}",
                "{key:spaced} seal no. new",
                "calibration {key:lower}: number of the seal now on the tool",
                "A seal on the wrench with serial number {key:joined} looks odd; which one did the "
                "laboratory put on?",
            ),
            "measured by": (
                "Who measured the tool with the serial number {key}?",
                "{key:joined} measured by",
                "who did the calibration of {key:spaced}",
                "name of the technician, certificate for s/n {key:joined_lower}",
                "We have a question on the measurements in the certificate of {key}: who made "
                "them?",
            ),
        },
        distinct=True,
    ),
    Template(
        "vehicle inspection",
        "mixed",
        lambda c: (c.choice(_PLATES), str(c.randrange(2015, 2025))),
        lambda key: _Said(" / ".join(key)),
        lambda c: {
            "odometer": f"{_count(c.randrange(150_000, 400_000))} km",
            "badge number": f"{c.randrange(1_000_000, 10_000_000)} {c.choice('TUV')}",
            "inspector": _person(c),
        },
        lambda _, place: f"vehicles/{place:05}.html",
        _vehicle,
        {
            "odometer": (
                "What was the odometer of {0} at its inspection in {1}?",
                "{key:plate_joined} {1} odometer",
                "km reading {key:plate} inspection {1}",
                "how many kilometres had {key:plate_spaced} on the clock when it was inspected in "
                "{1}",
                "We want to sell the van {0} and need the mileage from the {1} inspection report.",
                "odometer {1} {key:plate_spaced}",
            ),
            "badge number": (
                "What number has the badge that {0} was given in {1}?",
                "badge no. {key:plate_joined} {1}",
                "inspection {1} {key:plate} number of the new badge",
                "{0} {1} badge",
                "The badge on {key:plate_spaced} was scratched off; which number did it get at the "
                "inspection of {1}?",
            ),
            "inspector": (
                "Who inspected {0} in {1}?",
                "inspector {key:plate_joined} {1}",
                "{key:plate} who did the {1} inspection",
                "by whom was the vehicle {key:plate_spaced} inspected in {1}?",
                "The defect should have been seen: who carried out the {1} inspection of our "
                "vehicle {0}?",
            ),
        },
        distinct=True,
    ),
)
