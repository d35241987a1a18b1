"""Six more kinds of look-alikes, written by somebody who had not read the rules of the search.

Decisions on planning applications, applications of nurses to an agency, reports on the performances
of a theatre, job descriptions in several issues, certificates of analysis and valuations of houses.
Each is laid out in one of three ways, and each way has its own format, so that a folder holds text,
HTML, mail or Markdown side by side. The key stands in a title, a line "Re:", a letter's signature,
rows of a table that say its parts apart, or a line at the foot of the page. Most pages name another
of their kind: the permission that is replaced, a colleague who can be asked, another performance,
another issue, another batch, a house nearby. Every page has several values of the sort that is
asked for, such as the pay that is earned and the pay that is wanted. Questions are often only a few
words, in small letters: "19/01482", "application 1482 of 2019", "garcia ines", "14.3.2020 evening",
"night porter york iss. 4", "24195c07", "12 church ln whitby".
"""

from __future__ import annotations

import random
import unicodedata
import zlib
from collections.abc import Callable
from datetime import date, timedelta
from email.utils import formataddr
from functools import cache, partial
from itertools import islice

from lookalikes_data import Key, Template, draw_keys, words
from lookalikes_pages import digits, html, money, sentences, talk

__all__ = ["TENTH"]


def _items(text: str) -> list[str]:
    return " ".join(text.split()).split(", ")


_FIRST = words("""
    Amara Andrew Anne-Marie Bethan Carmen Chidi Ciara Colin Dafydd Deepa Dilys Eoin Farid Fergus
    Frank Gemma Grace Gwen Hamish Hannah Ifeoma Imran Inés Isla Janet Jyoti Karen Kofi Lars Leah
    Lena Liam Lorna Magda Maeve Malik Marek Mei Miguel Mónica Nadia Neil Nia Obinna Oksana Omar
    Paula Pieter Priya Rahul Rhona Rosa Sanjay Seán Shona Sonia Tariq Teresa Tomasz Una Valerie
    Wen Yusuf Zainab
""")
_LAST = _items("""
    Abara, Ahmed, Banerjee, Barr, Boyle, Brennan, Campbell, Chowdhury, Coyle, Cruz, Davies, De
    Souza, Devlin, Doherty, Ekwueme, Evans, Fernández, Flynn, Fraser, Gallagher, García, Ghosh,
    Griffiths, Haddad, Hughes, Iqbal, Jenkins, Kaminska, Kaur, Kelleher, Lewandowski, Llewellyn,
    Lynch, MacDonald, Mahmood, McBride, Mensah, Morgan, Murphy, Nair, Nkemelu, Novak, O'Brien,
    O'Neill, Okoye, Ortiz, Owens, Parry, Patel, Pereira, Quinn, Rahman, Reid, Rees, Ruiz, Santos,
    Shah, Sheridan, Singh, Sinclair, Sweeney, Thapa, Urquhart, Van Dijk, Vaughan, Wang, Wieczorek,
    Williams, Yeung, Zhou
""")
# Of everybody else, so that no one named here applies to the agency.
_OTHERS = words("""
    Appleyard Beckwith Bickerdike Clough Dewhirst Earnshaw Firth Garside Hebblethwaite Illingworth
    Jagger Lumb Midgley Naylor Ogden Priestley Rushworth Sugden Tattersall Umpleby Varley Womersley
""")
_MONTHS = words("""
    January February March April May June July August September October November December
""")
_JOBS = _items("""
    Receptionist, Night Porter, Porter, Cook, Head Cook, Kitchen Assistant, Housekeeper, Caretaker,
    Gardener, Head Gardener, Driver, Minibus Driver, Storekeeper, Payroll Clerk, Accounts Clerk,
    Volunteer Coordinator, Activities Coordinator, Care Assistant, Senior Care Assistant, Deputy
    Manager, Shop Manager, Shop Assistant, Fundraiser, Archivist, Librarian, Laundry Assistant,
    Maintenance Engineer, Training Officer
""")
_SITES = words("""
    Barnsley Beverley Bradford Doncaster Halifax Harrogate Hull Keighley Leeds Otley Rotherham
    Selby Skipton Wakefield York
""")
_STREETS = _items("""
    Abbey Road, Abbey Lane, Beck Lane, Castle Street, Chapel Terrace, Church Lane, Church Road,
    Cliff Road, Dale View, Elm Avenue, Fairfield Drive, Garth Close, Hawthorn Avenue, Highfield
    Road, Kirkgate, Larpool Lane, Manor Close, Mill Lane, Moor Road, Park Avenue, Priory Drive,
    Sandgate, Station Road, Sycamore Close, Upgang Lane, Westgate
""")
_TOWNS = words("""
    Bedale Filey Guisborough Helmsley Malton Masham Northallerton Pickering Redcar Ripon Saltburn
    Scarborough Thirsk Whitby
""")
_WORKS = _items("""
    rear extension, loft conversion, garage, porch, change of use to a shop, two dormer windows,
    replacement windows, felling of a beech, shop front, garden wall, workshop, stable block
""")
_PLAYS = _items("""
    The Tempest, An Inspector Calls, Blithe Spirit, Hobson's Choice, Twelfth Night, Cinderella
""")

_PLANNING = sentences("""
    The facing bricks shall match those of the present house. Hours of work are eight to six on
    weekdays. No tree within the site may be lopped meanwhile. The highways authority had no
    objection. Two neighbours wrote about the loss of light. Surface water must not run onto the
    road. The parish council asked for a site visit. You may appeal to the inspectorate. Samples of
    the roof tiles are to be shown to the case officer. Building regulations are a separate matter.
    A copy of the drawings is on the file. Bats were looked for and none found
""")
_NURSING = sentences("""
    I have worked on surgical wards for most of my time. Nights and weekends are no trouble. My
    training in wound care is up to date. I drive and own a small car. Before that I spent two years
    in a hospice. I like to teach students at the bedside. Short notice has never been a problem. In
    my free time I sing in a choir. I am used to three different record systems. Long shifts suit me
    better than short ones. My last appraisal was a good one. A renewed police check is on its way
""")
_THEATRE = sentences("""
    A lighting cue in the second act came late. The understudy went on and was warmly received. Two
    latecomers were seated at the interval. The radiator in the stalls knocks. A hearing loop set
    was not returned. The prompt side door sticks again. Applause held up the last scene. Someone
    felt faint and was given water. The ice cream freezer needs to be defrosted. A school party was
    very attentive. The revolve was slow to start. Row G needs a new seat cover
""")
_WORKING = sentences("""
    The holder treats visitors with courtesy. Some lifting is involved and training is given. A
    uniform is provided. Duties may vary with the season. Rotas are published four weeks ahead.
    Confidentiality is expected at all times. The post is subject to a trial period of six months.
    Good spoken English is needed. Keys are signed for at the start of each shift. Overtime is
    agreed beforehand. A first aid certificate is welcome. Everybody helps on open days
""")
_ANALYSIS = sentences("""
    Samples were drawn from the top and the bottom of the vessel. The instrument was checked against
    the standard on the same morning. Drums are to be kept closed and dry. The colour was judged by
    eye. A retained sample is kept for three years. The goods conform to the agreed specification.
    No metals were detected. Filtration took longer than usual. The nitrogen blanket held
    throughout. This certificate was made by a computer. The seal on each drum is numbered. Results
    apply to the sample as received
""")
_SURVEY = sentences("""
    The roof was seen from the ground only. The boiler is of recent date. Damp was noted beside the
    chimney breast. The garden faces south. Parking is on the street. The loft could not be entered.
    Windows are of plastic throughout. The area is popular with families. The road is adopted. A
    shared drain crosses the rear yard. Floors were covered by carpet. We were let in by the owner
""")


class _Typed(str):
    """A key or a part of one, which a question can have in another form: ``{key:low}``."""

    def __format__(self, form: str) -> str:
        made = _FORMS.get(form)
        return made(self) if made else str.__format__(self, form)


def _low(text: str) -> str:
    """Small letters without accents."""
    return "".join(each for each in unicodedata.normalize("NFD", text.lower()) if each.isascii())


def _street(text: str) -> str:
    name, _, sort = text.rpartition(" ")
    short = {"Road": "rd", "Lane": "ln", "Avenue": "ave", "Street": "st", "Drive": "dr"}
    return f"{name} {short.get(sort, sort)}".lower().strip()


_FORMS: dict[str, Callable[[str], str]] = {
    "low": _low,
    "bare": lambda text: text.lstrip("0"),
    "joined": lambda text: text.lower().replace("-", ""),
    "spaced": lambda text: text.replace("-", " "),
    "street": _street,
    "month": lambda text: str(_MONTHS.index(text) + 1),
    "th": lambda text: text + {"1": "st", "2": "nd", "3": "rd", "21": "st", "22": "nd",
                               "23": "rd"}.get(text, "th"),
}  # fmt: skip


def _key(*parts: str) -> Key:
    return tuple(map(_Typed, parts))


def _person(chance: random.Random) -> str:
    return f"{chance.choice(_FIRST)} {chance.choice('ABCDEFGHJLMRSTW')}. {chance.choice(_OTHERS)}"


def _day(chance: random.Random, first: int, last: int) -> date:
    return date(first, 1, 1) + timedelta(days=chance.randrange(365 * (last - first)))


def _long(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _pounds(chance: random.Random, low: int, high: int) -> str:
    return f"{chance.randrange(low, high, 50):,}"


def _way(said: str) -> int:
    """Which of its three ways a page is laid out in."""
    return zlib.crc32(said.encode()) % 3


def _filed(folder: str, said: Callable[[Key], str], endings: str) -> Callable[[Key, int], str]:
    return lambda key, place: f"{folder}/{place:05}.{endings.split()[_way(said(key))]}"


def _mail(writer: str, house: str, to: str, subject: str, sent: date, c: random.Random) -> str:
    return (
        f"From: {formataddr((writer, f'{_low(writer).split()[-1]}@{house}.example'))}\n"
        f"To: {to}@{house}.example\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: 8bit\n"
        f"Subject: {subject}\nDate: {sent:%a, %d %b %Y} {c.randrange(8, 23):02}:"
        f"{c.randrange(60):02}:00 +0000\nMessage-ID: <{digits(c, 10)}@{house}.example>\n\n"
    )


def _table(*rows: tuple[str, ...]) -> str:
    cells = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in cells) + "\n</table>"


@cache
def _known(place: int) -> list[str]:
    return [TENTH[place].said(key) for key in islice(draw_keys(TENTH[place]), 800)]


def _related(place: int, said: str, c: random.Random, fits: Callable[[str], bool]) -> str:
    """Another document of the template, which fits; empty if none is mentioned."""
    others = [each for each in _known(place) if each != said and fits(each)]
    return c.choice(others) if others and c.random() < 0.7 else ""


def _application(key: Key) -> str:
    return _Typed(f"{key[0]}/{key[1]}/{('FUL', 'HOU', 'LBC', 'TRE')[int(key[1]) % 4]}")


def _decision(key: str, v: dict[str, str], c: random.Random) -> str:
    some, way, work = talk(c, _PLANNING), _way(key), c.choice(_WORKS)
    came = date(2000 + int(key[:2]), 1, 1) + timedelta(days=c.randrange(250))
    made = came + timedelta(days=c.randrange(40, 110))
    site = f"{c.randrange(1, 90)} {c.choice(_STREETS)}, {c.choice(_TOWNS)}"
    other = _related(0, key, c, lambda each: each[:2] == key[:2] or each[3:8] == key[3:8])
    officer, agent, advert = _person(c), _person(c), money(c, 40, 200)
    withdrawn = f"{digits(c, 5)}-{c.choice('ABCDE')}"
    if way == 0:
        link = f" This permission takes the place of {other}, which is revoked." if other else ""
        return (
            f"PENWICK DISTRICT COUNCIL\nPlanning Office, 2 Castle Yard\n\n{_long(made)}\n\n"
            f"{v['applicant']}\nc/o {agent}, architects\n\nRe: {work} at {site}\nYour application "
            f"{key}\n\nDear Sir or Madam,\n\npermission is granted on the conditions below. "
            f"{some(2)}{link}\n\n1. The work must follow drawing {v['drawing']} and not drawing "
            f"{withdrawn}.\n2. {some(1)}\n3. "
            f"{some(1)}\n4. {some(1)}\n\n{some(4)}\n\nThe application fee of £{v['fee']} was "
            f"received (receipt {v['receipt']}). For the notice in the newspaper £{advert} "
            f"were charged separately (receipt {digits(c, 6)}).\n\nYours faithfully\n{officer}\n"
        )
    if way == 1:
        rows = (
            ("Applicant", v["applicant"]), ("Agent", agent), ("Site", site), ("Proposal", work),
            ("Received", _long(came)), ("Decided", f"{_long(made)}, granted"),
            ("Approved drawing", v["drawing"]), ("Withdrawn drawing", withdrawn),
            ("Related cases", other or "none"),
        )  # fmt: skip
        return html(
            f"Planning register: {key}",
            f"{_table(*rows)}\n<h2>Report of the officer</h2>\n<p>{some(9)} ({officer})</p>\n"
            f"<h2>Payments</h2>\n<p>Application fee £{v['fee']}, receipt {v['receipt']}. Newspaper "
            f"notice £{advert}, receipt {digits(c, 6)}.</p>",
        )
    link = f" Please do not mix it up with {other}, which is with my colleague." if other else ""
    return _mail(officer, "penwick", "planning.desk", f"{key} {work}, {site}", made, c) + (
        f"Hello all,\n\nthis one was granted today.{link} {some(4)}\n\nThe applicant is "
        f"{v['applicant']}; the letter goes to {agent}. {some(4)} Drawing "
        f"{v['drawing']} is the one approved; {withdrawn} was withdrawn.\n\nFor the "
        f"books: the fee was £{v['fee']} with receipt {v['receipt']}, "
        f"the notice £{advert} with receipt {digits(c, 6)}.\n\n{officer}\n"
    )


def _nurse(key: str, v: dict[str, str], c: random.Random) -> str:
    some, way = talk(c, _NURSING), _way(key)
    first, last = key.split(" ", 1)
    other = _related(1, key, c, lambda each: each.startswith(first) or each.endswith(last))
    now = f"{float(v['pay']) - c.randrange(100, 400) / 100:.2f}"
    home, ward = f"01{digits(c, 3)} {digits(c, 6)}", f"ward {c.randrange(2, 30)}"
    lives = f"{c.randrange(1, 90)} {c.choice(_STREETS)}, {c.choice(_TOWNS)}"
    if way == 0:
        link = f"\n## Reference\n\n{other}, {ward}, extension {digits(c, 4)}\n" if other else ""
        return (
            f"# {key}\n\n{lives}  \nMobile {v['mobile']}  \nHome {home}\n\n## Profile\n\n{some(5)}"
            f"\n\n## Registration\n\nNursing PIN {v['pin']}, staff number at present {digits(c, 6)}"
            f"\n\n## Experience\n\n{some(6)}\n{link}\n## Terms\n\n| | |\n|---|---|\n| Now paid | "
            f"£{now} an hour |\n| Wanted | £{v['pay']} an hour |\n| Free from | {v['start']} |\n"
        )
    if way == 1:
        link = f"May be asked    {other}, {ward}\n" if other else ""
        return (
            f"APPLICATION FORM\n\nSurname         {last.upper()}\nFirst names     {first}\nAddress"
            f"         {lives}\nTelephone       {home} (home)\n                {v['mobile']} "
            f"(mobile)\nPIN             {v['pin']}\n\nWHY DO YOU APPLY?\n{some(6)}\n\nEXPERIENCE\n"
            f"{some(5)}\n\nREFERENCE\n{link}Staff number    {digits(c, 6)}\n\nTERMS\nPay at present"
            f"  {now} pounds an hour\nPay expected    {v['pay']} pounds an hour\nCould start     "
            f"{v['start']}\n"
        )
    link = f"{other}, with whom I share {ward}, will gladly say more about me. " if other else ""
    return (
        f"{lives}\n{_long(_day(c, 2023, 2025))}\n\nMoorland Nursing Agency\n5 Quay Street\nHull\n\n"
        f"Dear {_person(c)},\n\nI should like to join your agency as a nurse. {some(4)}\n\nMy PIN "
        f"is {v['pin']} and I could start on {v['start']}. {link}{some(4)}\n\nAt present I earn "
        f"£{now} an hour and I hope for £{v['pay']}. {some(2)}\n\nPlease call my mobile, "
        f"{v['mobile']}, rather than {home}, which is my mother's.\n\nYours sincerely\n\n{key}\n"
    )


def _date_of(key: Key) -> date:
    return date(int(key[2]), _MONTHS.index(key[1]) + 1, int(key[0]))


def _performance(key: Key) -> str:
    return _Typed(f"{_date_of(key):%A} {key[0]} {key[1]} {key[2]}, {key[3]}")


def _show(key: str, v: dict[str, str], c: random.Random) -> str:
    some, way, play = talk(c, _THEATRE), _way(key), c.choice(_PLAYS)
    day, house = key.split(", ")
    held = _date_of(_key(*day.split()[1:]))
    other = _related(2, key, c, lambda each: day.split(" ", 2)[2] in each or day[-4:] in each)
    manager, sold = _person(c), c.randrange(40, 190)
    programmes = money(c, 60, 400)
    if way == 0:
        link = f" The same happened on {other}." if other else ""
        sent = held + timedelta(days=c.randrange(2))
        return _mail(manager, "oldmill-theatre", "reports", f"Show report {key}", sent, c) + (
            f"{play}\n\n{some(3)}{link} {some(3)}\n\nAudience: {v['audience']}\nProgrammes sold: "
            f"{sold}\n\n{some(3)}\n\nBox office £{v['box']}, bar £{v['bar']}, programmes "
            f"£{programmes}. Incident report no. {v['incident']}, lost property no. "
            f"{digits(c, 5)}.\n\n{manager}\n"
        )
    if way == 1:
        rows = (
            ("Date", f"{held:%a %d/%m/%Y}"), ("Performance", house), ("Play", play),
            ("Manager", manager), ("Compare", other or "-"),
        )  # fmt: skip
        counts = (
            ("Audience", v["audience"]), ("Programmes sold", str(sold)),
            ("Box office", f"£{v['box']}"), ("Bar", f"£{v['bar']}"),
            ("Programmes", f"£{programmes}"),
        )  # fmt: skip
        return html(
            "Front of house report",
            f"{_table(*rows)}\n<h2>Remarks</h2>\n<p>{some(9)}</p>\n<h2>Figures</h2>\n"
            f"{_table(*counts)}\n<h2>Papers</h2>\n<p>Lost property {digits(c, 5)}. Incident report "
            f"{v['incident']}.</p>",
        )
    link = f" It was fuller than on {other}." if other else ""
    return (
        f"THE OLD MILL THEATRE\n{play}\n{house.capitalize()}, {day}\n\nOn stage. {some(5)}\n\nIn "
        f"the house. We had {v['audience']} people in and sold {sold} programmes.{link} {some(4)}\n"
        f"\nMoney. The bar took £{v['bar']} and the programmes made £{programmes}; tickets at the "
        f"box office came to £{v['box']}. {some(1)}\n\nLost property slip {digits(c, 5)} and "
        f"incident report {v['incident']} are in the folder.\n\nSigned {manager}\n"
    )


def _post(key: Key) -> str:
    return _Typed(f"{key[0]}, {key[1]}, issue {key[2]}")


def _job(key: str, v: dict[str, str], c: random.Random) -> str:
    some, way = talk(c, _WORKING), _way(key)
    job, site, issue = key.split(", ")
    number = issue.split()[1]
    other = _related(3, key, c, lambda each: f", {site}, " in each or each.startswith(f"{job}, "))
    top = f"{int(v['pay'].replace(',', '')) + c.randrange(1000, 4000, 50):,}"
    agreed, signed = _long(_day(c, 2010, 2025)), _person(c)
    if way == 0:
        link = f" See also {other}." if other else ""
        return (
            f"# Job description: {job}\n\n| | |\n|---|---|\n| Site | {site} |\n| Issue | {number} |"
            f"\n| Agreed | {agreed} |\n| Post number | {v['post']} |\n| Cost centre | {v['centre']}"
            f" |\n\n## Purpose\n\n{some(4)}\n\n## Duties\n\n{some(5)}{link}\n\n## Conditions\n\n"
            f"Pay starts at £{v['pay']} and ends at £{top} a year. The line manager is "
            f"{v['manager']}. {some(1)} The description was signed by {signed}.\n"
        )
    if way == 1:
        link = f" Takes over part of the duties in {other}." if other else ""
        return html(
            f"{job} ({site})",
            f"<p>You report to {v['manager']}. {some(4)}</p>\n<h2>What you will do</h2>\n<p>"
            f"{some(6)}</p>\n<h2>What you will earn</h2>\n<p>£{v['pay']} a year at first and up to "
            f"£{top} later.</p>\n<h2>For the office</h2>\n<p>Post {v['post']}, cost centre "
            f"{v['centre']}. Advertised under {digits(c, 6)}.</p>\n<hr>\n<p>Issue {number}, "
            f"{agreed}, {signed}.{link}</p>",
        )
    link = f"Replaces:        {other}\n" if other else ""
    return (
        f"JOB DESCRIPTION\n{key}\n\nAgreed:          {agreed}\nSigned:          {signed}\n{link}\n"
        f"TASKS\n{some(8)}\n\nPAY\nBottom of scale: {v['pay']}\nTop of scale:    {top}\n\nOFFICE\n"
        f"Line manager:    {v['manager']}\nPost number:     {v['post']}\nAdvert number:   "
        f"{digits(c, 6)}\nCost centre:     {v['centre']}\n\n{some(2)}\n"
    )


def _certificate(key: str, v: dict[str, str], c: random.Random) -> str:
    some, way = talk(c, _ANALYSIS), _way(key)
    good = f"{c.choice(('Butyl', 'Cetyl', 'Decyl', 'Isopropyl'))} {c.choice(('oleate', 'laurate'))}"
    made = date(2000 + int(key[:2]), 1, 1) + timedelta(days=int(key[2:5]) - 1)
    other = _related(4, key, c, lambda each: each[:2] == key[:2] and each[6] == key[6])
    chemist, typical = _person(c), f"{c.randrange(97000, 99900) / 1000:.3f}"
    tests = (
        ("Assay, %", "97.0 to 100.0", v["assay"]), ("Viscosity, mPa s", "5 to 25", v["viscosity"]),
        ("Water, mg/kg", "below 5000", v["water"]),
        ("Acid value", "below 1", f"0.{c.choice('12345')}"),
    )  # fmt: skip
    if way == 0:
        link = f"<p>Made in the same vessel after {other}.</p>\n" if other else ""
        rows = (("Product", good), ("Batch", key), ("Made", _long(made)), ("Order", v["order"]))
        return html(
            "Certificate of analysis",
            f"{_table(*rows)}\n<p>{some(5)}</p>\n{link}<h2>Results</h2>\n"
            f"{_table(('Test', 'Limits', 'Result'), *tests)}\n<p>A typical assay is {typical}. "
            f"{some(4)}</p>\n<p>{chemist}, quality control. Delivery note {digits(c, 7)}.</p>",
        )
    if way == 1:
        link = f" The drums stand beside those of {other}." if other else ""
        lines = "\n".join(f"{test:18}{limits:16}{result:>10}" for test, limits, result in tests)
        return (
            f"RIDINGS ESTERS LTD\nCertificate of analysis\n\n{good}, lot {key.replace('-', '')}\n"
            f"Customer order {v['order']}, delivery note {digits(c, 7)}\n\n{some(4)}{link} "
            f"{some(3)}\n\n{'Test':18}{'Limits':16}{'Found':>10}\n{lines}\n\n{some(2)} The assay "
            f"is usually near {typical}.\n\n{_long(made + timedelta(days=2))}\n{chemist}\n"
        )
    link = f" Of {other}, a second certificate follows." if other else ""
    return _mail(chemist, "ridings-esters", "dispatch", f"CoA {good} {key}", made, c) + (
        f"Dear colleagues,\n\nthis batch is released for order {v['order']}, not for "
        f"{digits(c, 7)}.{link} {some(4)}\n\nWe found an assay of {v['assay']} % (typically "
        f"{typical} %), a viscosity of {v['viscosity']} mPa s and {v['water']} mg/kg of water. "
        f"{some(5)}\n\n{chemist}\n"
    )


def _address(key: Key) -> str:
    return _Typed(f"{key[0]} {key[1]}, {key[2]}")


def _valuation(key: str, v: dict[str, str], c: random.Random) -> str:
    some, way = talk(c, _SURVEY), _way(key)
    line, town = key.split(", ")
    street = line.split(" ", 1)[1]
    other = _related(5, key, c, lambda each: each.endswith(f"{street}, {town}"))
    other = other or _related(5, key, c, lambda each: street in each or each.startswith(line))
    asking = f"{int(v['market'].replace(',', '')) + c.randrange(2000, 20000, 50):,}"
    seen, signed = _day(c, 2012, 2025), _person(c)
    sold = f"£{_pounds(c, 120_000, 600_000)} in {seen.year - 1}"
    if way == 0:
        link = f" For comparison, {other}, was sold for {sold}." if other else ""
        return (
            f"HARKER & LUMLEY, SURVEYORS\n\n{_long(seen)}\nOur ref. {v['report']}\nYour ref. "
            f"{digits(c, 6)}\n\nRe: {key}\n\nDear client,\n\nwe saw the house this week. {some(6)}"
            f"{link}\n\nThe asking price is £{asking}. In our opinion the market value is "
            f"£{v['market']}. {some(2)} It could be let for £{v['rent']} a month, and to rebuild "
            f"it would cost £{v['rebuild']}. {some(1)}\n\nYours faithfully\n{signed}\n"
        )
    if way == 1:
        link = f"<h2>Comparable</h2>\n{_table((other, f'sold for {sold}'))}\n" if other else ""
        rows = (("Street", line), ("Town", town), ("Seen", _long(seen)), ("Report", v["report"]))
        sums = (
            ("Asking price", f"£{asking}"), ("Market value", f"£{v['market']}"),
            ("Rebuilding", f"£{v['rebuild']}"), ("Monthly rent", f"£{v['rent']}"),
        )  # fmt: skip
        return html(
            "Valuation report",
            f"{_table(*rows)}\n<h2>Condition</h2>\n<p>{some(8)}</p>\n{link}<h2>Figures</h2>\n"
            f"{_table(*sums)}\n<p>{some(1)} Instruction {digits(c, 6)}, {signed}.</p>",
        )
    link = f"\n- {other}, went for {sold}" if other else ""
    return (
        f"# Valuation of {key}\n\n{some(7)}\n\n## Notes\n\n- Seen on {_long(seen)} by {signed}"
        f"{link}\n- Offered at £{asking}\n- {some(1)}\n\n## Opinion\n\nMarket value £{v['market']},"
        f" rebuilding £{v['rebuild']}, rent £{v['rent']} a month. {some(2)}\n\nReport no. "
        f"{v['report']}, instruction {digits(c, 6)}\n"
    )


_Named = partial(Template, distinct=True)
TENTH = (
    _Named(
        "planning decision",
        "number",
        lambda c: _key(f"{c.randrange(8, 25):02}", f"{c.randrange(100, 1900):05}"),
        _application,
        lambda c: {
            "fee": money(c, 100, 3000),
            "receipt": digits(c, 6),
            "applicant": _person(c),
            "drawing": f"{digits(c, 5)}-{c.choice('ABCDE')}",
        },
        _filed("planning", _application, "txt html eml"),
        _decision,
        {
            "fee": ("application fee {0}/{1}", "What was the fee for {key}?"),
            "receipt": ("Receipt number of the fee for planning application {1:bare} of 20{0}?",),
            "applicant": ("who applied for {key:low}", "Who is the applicant in {0}/{1}?"),
            "drawing": ("Which drawing was approved in {key}?", "{0}/{1} approved drawing"),
        },
    ),
    _Named(
        "nurse",
        "name",
        lambda c: _key(c.choice(_FIRST), c.choice(_LAST)),
        lambda key: _Typed(f"{key[0]} {key[1]}"),
        lambda c: {
            "mobile": f"07{digits(c, 3)} {digits(c, 6)}",
            "pin": f"{digits(c, 2)}{c.choice('ABCDEFGHI')}{digits(c, 4)}{c.choice('ENSW')}",
            "pay": f"{c.randrange(1700, 4200) / 100:.2f}",
            "start": _long(_day(c, 2025, 2029)),
        },
        lambda key, place: f"nurses/{place:05}.{('md', 'txt', 'txt')[_way(' '.join(key))]}",
        _nurse,
        {
            "mobile": ("mobile {1:low} {0:low}", "What's {key}'s mobile number?"),
            "pin": ("nursing pin of {key:low}", "{1}, {0}: PIN"),
            "pay": ("How much an hour does {key} want?", "{1:low} {0:low} hourly pay expected"),
            "start": ("When could {key} start?", "{key:low} can start from"),
        },
    ),
    _Named(
        "show report",
        "date",
        lambda c: _key(
            str(c.randrange(1, 29)),
            c.choice(_MONTHS),
            str(c.randrange(2010, 2025)),
            c.choice(("matinee", "evening")),
        ),
        _performance,
        lambda c: {
            "audience": str(c.randrange(150, 1200)),
            "box": money(c, 900, 9000),
            "bar": money(c, 200, 2500),
            "incident": digits(c, 5),
        },
        _filed("shows", _performance, "eml html txt"),
        _show,
        {
            "audience": ("How many people saw the {3} on {0} {1} {2}?", "audience {key:low}"),
            "box": ("box office {0}.{1:month}.{2} {3}", "box office takings {3} {0} {1:.3} {2}"),
            "bar": ("What did the bar take at the {3} of {1} {0:th}, {2}?", "bar, {3} {0} {1} {2}"),
            "incident": ("incident report number {0} {1:low} {2} {3}",),
        },
    ),
    _Named(
        "job description",
        "version",
        lambda c: _key(c.choice(_JOBS), c.choice(_SITES), str(c.randrange(1, 13))),
        _post,
        lambda c: {
            "post": digits(c, 6),
            "centre": digits(c, 5),
            "pay": _pounds(c, 19_000, 48_000),
            "manager": _person(c),
        },
        _filed("jobs", _post, "md html txt"),
        _job,
        {
            "post": ("post number {0:low} {1:low} issue {2}", "post no., {key}"),
            "centre": ("Cost centre of the {0:low} in {1}, issue {2} of the job description?",),
            "pay": ("What is the lowest pay in {key}?", "starting pay {0:low} {1:low} iss. {2}"),
            "manager": ("Who is the line manager of the {0} in {1} according to issue {2}?",),
        },
    ),
    _Named(
        "certificate of analysis",
        "part",
        lambda c: (
            f"{c.randrange(15, 25)}{c.randrange(1, 366):03}-{c.choice('ABCDEF')}"
            f"{c.randrange(1, 25):02}",
        ),
        lambda key: _Typed(key[0]),
        lambda c: {
            "assay": f"{c.randrange(97_000, 99_990) / 1000:.3f}",
            "viscosity": f"{c.randrange(5_000, 25_000) / 1000:.3f}",
            "water": str(c.randrange(300, 4900)),
            "order": digits(c, 7),
        },
        _filed("certificates", lambda key: key[0], "html txt eml"),
        _certificate,
        {
            "assay": ("assay of batch {key}", "assay {key:joined}"),
            "viscosity": ("What was the viscosity of lot {key:spaced}?", "viscosity {key:low}"),
            "water": ("How much water is in batch {key:joined}?", "{key} water content"),
            "order": ("Which order was batch {key} for?", "order number lot {key:joined}"),
        },
    ),
    _Named(
        "valuation",
        "mixed",
        lambda c: _key(str(c.randrange(1, 60)), c.choice(_STREETS), c.choice(_TOWNS)),
        _address,
        lambda c: {
            "market": _pounds(c, 120_000, 600_000),
            "rebuild": _pounds(c, 100_000, 400_000),
            "rent": str(c.randrange(500, 2400)),
            "report": f"HL{digits(c, 6)}",
        },
        _filed("valuations", _address, "txt html md"),
        _valuation,
        {
            "market": ("market value {0} {1:street} {2:low}", "What did we value {key} at?"),
            "rebuild": ("What would it cost to rebuild {0} {1} in {2}?", "rebuilding cost {key}"),
            "rent": ("monthly rent {2:low} {0} {1:low}", "For how much could {key} be let?"),
            "report": ("valuation report number {0} {1:street}, {2}",),
        },
    ),
)
