"""Six kinds of look-alikes more, written by somebody who had read neither the rules nor what they
were tuned on.

Claims of an insurer, probate notices, shift logs of a power plant, data sheets in revisions,
container manifests, and payslips of 90 people over many months. What is new beside the sets before:

- The other documents that a document mentions are mostly there as well: earlier claims, relatives
  with the same surname, another revision, the box stowed below it, last month's payslip.
- A document and a question write the key in different forms: CLM/2014/048213, "claim no.
  2014-48213" and "claim 48213"; ROCHE, Elise and Elise Roche; "Thursday, 7 March 2024", 07.03.2024
  and 2024-03-07; "MSKU 482913-7", MSKU4829137 and MSKU482913; "Rev. C" and "index C".
- Each page has several values of one sort (net and gross, paid and claimed, tare and gross), and
  no other page of its template has the value that is asked for in the same place.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date
from functools import cache
from itertools import islice

from lookalikes_data import Key, Template, draw_day, draw_keys, draw_part, serial, words

__all__ = ["FIFTH"]

_FIRST = words("""
    Agnes Alban Alma Andrzej Anouk Arno Aurelia Basil Bernd Birgit Bodo Camilo Carmen Celine Clemens
    Corinna Cornelius Damian Delia Detlef Dora Edith Egon Elias Elise Emilio Erwin Eva Fabrice Flora
    Franz Frida Gerda Gernot Giulia Gregor Gudrun Hannes Hedwig Heiko Hubert Ilse Imre Ingo Isabel
    Ivo Janine Jochen Judith Julius Karla Klaus Konrad Laura Leander Lotte Lydia Manfred Marlene
    Maxim Mechthild Miriam Nikolai Norbert Odile Otmar Pia Quirin Ramona Reinhard Rita Roland
    Rosalie Rupert Sabine Severin Sigrid Sven Thekla Timo Traute Udo Ulla Viktor Volker Walburga
""")
_LAST = words("""
    Abendroth Alvarez Åkesson Bauer Beck Berglund Bischoff Böhm Brandauer Busch Carlsen Cerny
    Christensen Daume Decker Dietz Donnelly Dvorak Ebner Ehlers Engel Fabbri Fink Fitzgerald Frey
    Fuchs Gabler Geiger Gruber Guerra Hahn Hammer Hartmann Heller Herzog Holm Horvath Huber Jahn
    Jensen Juhasz Kaiser Kern Kofler Kraus Kuhn Lang Leclerc Lindner Lutz Maurer Mertens Mikkelsen
    Möller Nagy Neri Núñez O'Hara Ott Paulsen Pfeiffer Pichler Popov Rauch Reimann Riedel Roche
    Sachs Santoro Schäfer Seifert Sommer Stark Stein Strobl Thaler Ulbrich Unger Voss-Lange
    Wegener Winter Wolff Zauner
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")
# Some share a first name, some a surname.
_EMPLOYEES = [(_FIRST[n % 53], _LAST[n % 47]) for n in range(90)]
_SHEETS = [draw_part("AA-0000")(random.Random(f"sheet {n}"))[0] for n in range(160)]
_REVISIONS = "ABCDEFGHJKLMNPRSTUVWXYZ"
_OWNERS = ("CMAU", "HLXU", "MSKU", "OOLU", "TCLU", "TGHU")

_CLAIM = (
    "Photographs of the damage were handed in by e-mail.",
    "The policyholder was reached by telephone on the second attempt.",
    "Water had come in below the window of the utility room.",
    "Two estimates by local craftsmen are in the file.",
    "No third party is liable.",
    "Depreciation was taken into account for the carpets.",
    "The premium had been paid at the time of the loss.",
    "Police were not called.",
    "The damaged parts are kept until the file is closed.",
)
_ESTATE = (
    "Creditors are asked to come forward within six weeks.",
    "The will was opened in the presence of two witnesses.",
    "An inventory of the household has been drawn up.",
    "The garden plot goes back to the association.",
    "A piano and two paintings are left to the music school.",
    "Letters should be addressed to the registry and not to the family.",
    "The flat has been sealed.",
    "No claim for a compulsory portion has been made so far.",
)
_SHIFT = (
    "Feed pump B was taken out for an hour to change a seal.",
    "Cooling water temperature slightly raised in the afternoon.",
    "Fire alarm test at ten o'clock without findings.",
    "Oil sample taken from the main gearbox.",
    "The dispatcher asked for a reduced load twice.",
    "Scaffolders worked at the stack until four.",
    "Conveyor 4 tripped once and was restarted by hand.",
    "Keys of the switchgear room handed over complete.",
    "Ash silo emptied by two lorries.",
)
_CHIP = (
    "Reverse polarity protection is built in.",
    "The output is short-circuit proof.",
    "Store in dry bags after opening.",
    "Derate above 60 °C by two percent per degree.",
    "Marking of the package has changed slightly.",
    "Not intended for life support equipment.",
    "The evaluation board is available on request.",
    "Drawings are not to scale.",
    "A thermal pad on the underside must be soldered.",
)
_CARGO = (
    "Stuffed at the shipper's premises and not counted by the carrier.",
    "Doors face aft.",
    "No dangerous goods declared.",
    "Wooden dunnage treated and stamped.",
    "Small dent on the left side panel, noted before loading.",
    "Free time at destination is seven days.",
    "Vents closed at the shipper's request.",
    "Customs seal applied in addition.",
)
_PAY = (
    "Please keep this document; it is needed for your pension.",
    "Questions are answered on Tuesdays between nine and noon.",
    "The canteen allowance is taxed at a flat rate.",
    "Your holiday entitlement is shown on the last sheet.",
    "Church tax does not apply.",
    "The company bicycle is deducted in kind.",
    "Tax class unchanged.",
    "The collective raise takes effect with the summer.",
)


def _some(chance: random.Random, among: Sequence[str], count: int) -> str:
    return " ".join(chance.sample(among, count))


def _name(chance: random.Random) -> Key:
    return chance.choice(_FIRST), chance.choice(_LAST)


def _person(chance: random.Random) -> str:
    """With an initial, so that few people share a name."""
    first, last = _name(chance)
    return f"{first} {chance.choice('ABCDEFGHJKLMNPRSTW')}. {last}"


def _date(chance: random.Random) -> str:
    return " ".join(draw_day(chance))


def _money(chance: random.Random, thousands: int = 70) -> str:
    return f"{chance.randrange(100_000, 100_000 * thousands) / 100:,.2f}"


def _more(amount: str, chance: random.Random) -> str:
    """What was asked for, or is before deductions."""
    return f"{float(amount.replace(',', '')) * chance.uniform(1.1, 1.8):,.2f}"


def _code(chance: random.Random, letters: str) -> str:
    return f"{letters}{chance.randrange(100_000, 1_000_000)}"


@cache
def _drawn(template: str) -> list[str]:
    [of_name] = [each for each in FIFTH if each.name == template]
    return [of_name.said(key) for key in islice(draw_keys(of_name), 400)]


def _other(template: str, key: str, chance: random.Random) -> str:
    """The key of another document, which is there in all but the smallest corpora."""
    while (other := chance.choice(_drawn(template))) == key:
        pass
    return other


def _said_claim(key: Key) -> str:
    """Numbers run on from one year to the next."""
    return f"CLM/{2005 + int(key[0]) // 5000}/{int(key[0]):06}"


def _claim(key: str, v: dict[str, str], c: random.Random) -> str:
    _, year, number = key.split("/")
    other, way = _other("insurance claim", key, c), c.randrange(3)
    claimed, later = _more(v["payout"], c), int(v["loss"][-4:]) + 1
    seen = f"{c.randrange(1, 29)} {c.choice(_MONTHS)} {later}"
    if way == 0:
        return (
            f"CLAIM FILE {key}\n\nPolicyholder: {_person(c)}\nDate of loss: {v['loss']}\n"
            f"Reported: {seen}\nEarlier claim: {other}\nAdjuster: {v['adjuster']}\n\n"
            f"{_some(c, _CLAIM, 4)}\n\nClaimed: {claimed} EUR\nExcess: {c.randrange(1, 9)}00 "
            f"EUR\nPaid: {v['payout']} EUR\n"
        )
    if way == 1:
        return (
            f"Your claim no. {year}-{int(number)}\n\nDear {c.choice(('Mr', 'Ms'))} "
            f"{c.choice(_LAST)},\n\nyou told us of the damage of {v['loss']}. "
            f"{_some(c, _CLAIM, 4)}\n\nYou asked for {claimed} euros. After checking we have "
            f"transferred {v['payout']} euros. What you wrote about {other} is answered in a "
            f"letter of its own.\n\n{_some(c, _CLAIM, 2)}\n\nYours sincerely\n{v['adjuster']}\n"
            f"Claims department\n"
        )
    return (
        f"# Expert's report\n\nOn the order of the insurer, file {number} of {year}. Compare "
        f"{other}.\n\n## Findings\n\n{_some(c, _CLAIM, 4)}\n\n## Course\n\n- loss: {v['loss']}\n"
        f"- inspection: {seen}\n- in charge at the insurer: {v['adjuster']}\n\n"
        f"## Settlement\n\nReserve {claimed} EUR, settled with {v['payout']} EUR.\n"
    )


def _probate(key: str, v: dict[str, str], c: random.Random) -> str:
    """Relatives have the same surname; heirs and witnesses have estates of their own."""
    first, last = key.split(" ")
    kin, way = c.choice([each for each in _FIRST if each != first]), c.randrange(3)
    other = _other("probate notice", key, c)
    if way == 0:
        return (
            f"PROBATE REGISTRY\n\n{last.upper()}, {first}\nlast of {c.randrange(1, 200)} Chapel "
            f"Road\nDied: {v['death']}\nWill dated: {_date(c)}\nNext of kin: {kin} {last}\n"
            f"Witness to the will: {other}\nExecutor: {v['executor']}\n\n{_some(c, _ESTATE, 4)}\n\n"
            f"Estate, gross: {_more(v['estate'], c)} GBP\nEstate, net: {v['estate']} GBP\n"
        )
    if way == 1:
        return (
            f"Notice to creditors\n\n{key} died on {v['death']}. The heirs are {kin} {last} and "
            f"{other}. {_some(c, _ESTATE, 3)}\n\n{_some(c, _ESTATE, 3)}\n\n{v['executor']} "
            f"was appointed executor. Of {_more(v['estate'], c)} pounds there remain "
            f"{v['estate']} pounds after debts.\n"
        )
    return (
        f"# Estate of the late {c.choice(('Dr', 'Prof.'))} {last}, {first}\n\n"
        f"{_some(c, _ESTATE, 3)}\n\n## People\n\n| Part | Name |\n|---|---|\n"
        f"| Child | {kin} {last} |\n| Executor | {v['executor']} |\n| Witness | {other} |\n\n"
        f"## Facts\n\nDay of death {v['death']}; net value {v['estate']} GBP. "
        f"{_some(c, _ESTATE, 2)}\n"
    )


def _said_day(key: Key) -> str:
    return f"{int(key[2])} {_MONTHS[int(key[1]) - 1]} {key[0]}"


def _shift(key: str, v: dict[str, str], c: random.Random) -> str:
    number, month, year = key.split()
    day = date(int(year), _MONTHS.index(month) + 1, int(number))
    other, way = _other("shift log", key, c), c.randrange(3)
    if way == 0:
        return (
            f"SHIFT LOG {day:%d.%m.%Y}\n\nLeader: {v['leader']}\nRelieved: {_person(c)}\n\n"
            f"{_some(c, _SHIFT, 4)}\n\nOpen since {other}: level gauge of tank 3\n"
            f"Fed into the grid: {v['energy']} MWh\nOwn use: {c.randrange(20, 90)}."
            f"{c.randrange(10, 100)} MWh\nWork permit issued: {v['permit']}\n"
        )
    if way == 1:
        return (
            f"Unit 2, {day:%A}, {key}\n\n{v['leader']} led the shift. {_some(c, _SHIFT, 3)} The "
            f"remark of {other} has been dealt with.\n\n{_some(c, _SHIFT, 3)}\n\nFor the work at "
            f"the mill, permit {v['permit']} was made out. In the whole shift {v['energy']} "
            f"megawatt hours were delivered.\n"
        )
    return (
        f"# Handover {day:%Y-%m-%d}\n\n## Running\n\n{_some(c, _SHIFT, 3)}\n\n## Figures\n\n"
        f"| What | Entry |\n|---|---|\n| Shift leader | {v['leader']} |\n"
        f"| Planned | {c.randrange(1, 9)},{c.randrange(100, 1000)}.00 MWh |\n"
        f"| Delivered | {v['energy']} MWh |\n| Permit | {v['permit']} |\n\n## To do\n\n"
        f"{_some(c, _SHIFT, 2)} Same fault as on {other}.\n"
    )


def _revised(key: str, v: dict[str, str], c: random.Random) -> str:
    """The same part has several revisions, and other values in each."""
    part, revision = key.split(" Rev. ")
    older, way = c.choice([each for each in _REVISIONS if each != revision]), c.randrange(3)
    if way == 0:
        return (
            f"DATA SHEET\n{key}\nReplaces {part} Rev. {older}\n\n{_some(c, _CHIP, 4)}\n\n"
            f"Supply current, typical: {c.randrange(2, 9)}.{c.randrange(100, 1000)} mA\n"
            f"Supply current, maximum: {v['current']} mA\nReleased: {v['release']}\n"
            f"Mask set: {v['mask']}\n"
        )
    if way == 1:
        return (
            f"# {part}\n\nIndex {revision} of {v['release']}\n\n## Notes\n\n{_some(c, _CHIP, 4)}"
            f"\n\n## Changes\n\nIndex {older} is withdrawn. Compatible with "
            f"{_other('revised sheet', key, c)}.\n\n## Limits\n\nMask {v['mask']}. The part draws "
            f"{v['current']} mA at most.\n"
        )
    return (
        f"Document {part}-{revision}, supersedes {part}-{older}\n\n{_some(c, _CHIP, 3)} It was "
        f"released on {v['release']}.\n\n| Quantity | Min | Max |\n|---|---|---|\n"
        f"| Current in mA | 0.{c.randrange(100, 1000)} | {v['current']} |\n| Voltage in V | "
        f"{c.randrange(2, 5)} | {c.randrange(12, 40)} |\n\n{_some(c, _CHIP, 2)} Wafers of mask "
        f"{v['mask']}.\n"
    )


def _said_box(key: Key) -> str:
    """With the check digit of ISO 6346."""
    values = [n for n in range(10, 39) if n % 11]
    signs = (values[ord(s) - ord("A")] if s.isalpha() else int(s) for s in "".join(key))
    return f"{key[0]}{key[1]}{sum(n << place for place, n in enumerate(signs)) % 11 % 10}"


def _box(key: str, v: dict[str, str], c: random.Random) -> str:
    owner, number, check = key[:4], key[4:10], key[10]
    other, way = _other("container manifest", key, c), c.randrange(3)
    tare = f"{c.randrange(2, 5)},{c.randrange(0, 100):02}0"
    if way == 0:
        return (
            f"CARGO MANIFEST\n\nContainer: {owner} {number}-{check}\nBill of lading: {v['bill']}\n"
            f"Seal: {v['seal']}\nTare: {tare} kg\nGross: {v['gross']} kg\nStowed on top of: "
            f"{other}\n\n{_some(c, _CARGO, 4)}\n"
        )
    if way == 1:
        return (
            f"Arrival notice\n\nWe announce container {key} under bill of lading {v['bill']}. "
            f"{_some(c, _CARGO, 4)}\n\nBox {other} of the same shipper comes with a later ship. "
            f"{_some(c, _CARGO, 2)}\n\nThe box was weighed: {v['gross']} kilograms with the "
            f"cargo, {tare} kilograms without. It is closed with seal {v['seal']}.\n"
        )
    return (
        f"# Gate ticket {owner} {number} {check}\n\n| Check | Entry |\n|---|---|\n| Gross kg | "
        f"{v['gross']} |\n| Tare kg | {tare} |\n| Seal | {v['seal']} |\n\nCame on the same lorry "
        f"as {other}. {_some(c, _CARGO, 3)}\n\n## Papers\n\nB/L {v['bill']}. "
        f"{_some(c, _CARGO, 2)}\n"
    )


def _month(chance: random.Random) -> Key:
    person = chance.choice(_EMPLOYEES)
    return *person, f"{chance.randrange(1, 13):02}", str(chance.randrange(2019, 2025))


def _said_slip(key: Key) -> str:
    return f"{key[0]} {key[1]}'s payslip for {_MONTHS[int(key[2]) - 1]} {key[3]}"


def _slip(key: str, v: dict[str, str], c: random.Random) -> str:
    """The month before, of the same person, is mentioned; a colleague was mixed up with them."""
    name, month = key.split("'s payslip for ")
    first, last = name.split(" ")
    word, year = month.split()
    n = _MONTHS.index(word)
    before, way = f"{_MONTHS[n - 1]} {int(year) - (n == 0)}", c.randrange(3)
    other, gross = _other("payslip", key, c), _more(v["net"], c)
    if way == 0:
        return (
            f"PAYROLL {n + 1:02}/{year}\n\n{last}, {first}\nCarried over from {before}: "
            f"{c.randrange(10, 90)}.{c.randrange(10, 100)} EUR\nClerk: {v['clerk']}\n\n"
            f"{_some(c, _PAY, 3)}\n\nGross: {gross} EUR\nNet: {v['net']} EUR\n"
            f"Transfer: {v['transfer']}\n"
        )
    if way == 1:
        return (
            f"Payslip\n\n{c.choice(('Ms', 'Mr'))} {name}\n{c.randrange(1, 200)} Station Road\n\n"
            f"Period: {month} (the one for {before} was corrected)\n\n{_some(c, _PAY, 4)}\n\n"
            f"Out of {gross} euros you receive {v['net']} euros. The number of the transfer is "
            f"{v['transfer']}. {v['clerk']} will be glad to help you.\n"
        )
    return (
        f"# {name}, {year}-{n + 1:02}\n\n{_some(c, _PAY, 3)} By mistake {other} was put into "
        f"the same envelope.\n\n| Line | Amount |\n|---|---|\n| Gross pay | {gross} |\n"
        f"| Net pay | {v['net']} |\n\n## Handling\n\nTransfer {v['transfer']}, prepared by "
        f"{v['clerk']}. {_some(c, _PAY, 2)}\n"
    )


FIFTH = (
    Template(
        "insurance claim",
        "number",
        lambda c: (str(c.randrange(20_000, 95_000)),),
        _said_claim,
        lambda c: {"payout": _money(c), "adjuster": _person(c), "loss": _date(c)},
        serial("claims"),
        _claim,
        {
            "payout": ("How much was paid on claim {key}?", "claim {0} amount paid out"),
            "adjuster": ("Who handled claim {0}?", "Who is in charge of {key}?"),
            "loss": ("When did the damage in claim no. {0} happen?", "date of loss {key}"),
        },
        distinct=True,
    ),
    Template(
        "probate notice",
        "name",
        _name,
        " ".join,
        lambda c: {"executor": _person(c), "estate": _money(c), "death": _date(c)},
        lambda _, place: f"probate/{place:05}.md",
        _probate,
        {
            "executor": ("Who is the executor of {key}'s will?", "executor {1}, {0}"),
            "estate": ("What is the net value of the estate of {key}?", "net estate {1} {0}"),
            "death": ("When did {key} die?", "On what day did Dr. {0} {1} pass away?"),
        },
        distinct=True,
    ),
    Template(
        "shift log",
        "date",
        lambda c: (
            str(c.randrange(2005, 2025)),
            f"{c.randrange(1, 13):02}",
            f"{c.randrange(1, 29):02}",
        ),
        _said_day,
        lambda c: {
            "leader": _person(c),
            "energy": f"{c.randrange(1, 9)},{c.randrange(100, 1000)}.{c.randrange(10, 100)}",
            "permit": _code(c, "WP-"),
        },
        lambda _, place: f"shifts/{place:05}.txt",
        _shift,
        {
            "leader": ("Who led the shift on {0}-{1}-{2}?", "shift leader {2}.{1}.{0}"),
            "energy": (
                "How many MWh did we feed into the grid on {key}?",
                "energy delivered {0}-{1}-{2}",
            ),
            "permit": ("Which work permit was issued on {key}?", "permit of {2}.{1}.{0}"),
        },
        distinct=True,
    ),
    Template(
        "revised sheet",
        "version",
        lambda c: (c.choice(_SHEETS), c.choice(_REVISIONS)),
        " Rev. ".join,
        lambda c: {
            "current": f"{c.randrange(10, 99)}.{c.randrange(100, 1000)}",
            "release": _date(c),
            "mask": _code(c, "M"),
        },
        lambda _, place: f"datasheets/{place:05}.md",
        _revised,
        {
            "current": (
                "What is the maximum current of the {0} in revision {1}?",
                "max supply current {key}",
            ),
            "release": ("When was {0}-{1} released?", "release date of {0}, index {1}"),
            "mask": ("Which mask is used for {key}?", "mask set {0} revision {1}"),
        },
        distinct=True,
    ),
    Template(
        "container manifest",
        "part",
        lambda c: (c.choice(_OWNERS), str(c.randrange(470_000, 500_000))),
        _said_box,
        lambda c: {
            "seal": _code(c, c.choice("ABKLS")),
            "gross": f"{c.randrange(6, 31)},{c.randrange(100, 1000)}",
            "bill": f"{c.choice('BHNRS')}{_code(c, 'LX')}",
        },
        serial("manifests"),
        _box,
        {
            "seal": ("What seal is on container {key}?", "seal number {0} {1}"),
            "gross": ("How heavy is {key} with its cargo?", "gross weight {0}{1}"),
            "bill": (
                "Under which bill of lading does container {0} {1} travel?",
                "B/L for {key}",
            ),
        },
        distinct=True,
    ),
    Template(
        "payslip",
        "mixed",
        _month,
        _said_slip,
        lambda c: {"net": _money(c, 6), "transfer": _code(c, "TR"), "clerk": _person(c)},
        lambda _, place: f"payroll/{place:05}.md",
        _slip,
        {
            "net": (
                "What is the net pay on {key}?",
                "How much did {0} {1} get paid out for {2}/{3}?",
            ),
            "transfer": ("Transfer number of {key}?", "{1}, {0} {3}-{2} transfer"),
            "clerk": ("Who prepared {key}?", "Which clerk did the {2}/{3} payroll of {0} {1}?"),
        },
        distinct=True,
    ),
)
