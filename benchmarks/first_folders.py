"""Three folders, as `first_questions.py` asks about them: `practice`, `trade` and `club`.

They lie in `questions/folders`; the Word document of ``trade`` and the PDF of ``practice`` are made
here. The practice, the firm, the club and everybody in them are made up.
"""

from __future__ import annotations

import pathlib
import shutil

from planted_files import Body, Page, write_page

__all__ = ["FOLDERS", "write_folders"]

FOLDERS = pathlib.Path(__file__).parent / "questions" / "folders"

AGREEMENT = Page(
    "Frame agreement with Kordelia Seile GmbH",
    "Between Kordelia Seile GmbH, Hafenstrasse 31, Eckernförde (the maker) and Saltmarsh Rope & "
    "Canvas, The Old Ropewalk, Wivenholm Quay (the buyer). Signed on 12 January 2025 by Ansgar "
    "Voss and Agnes Thorley.",
    bodies=[
        Body(
            "1. What it is about",
            [
                "The maker supplies the buyer with ropes of polyester, dyneema and "
                "polypropylene. The buyer takes at least 18,000 metres in a calendar year, all "
                "sorts counted together. Waxed twine does not count."
            ],
        ),
        Body(
            "2. Prices",
            [
                "Prices are agreed each year before 31 January. Within the year the maker may "
                "raise them only if his yarn becomes more than 5 per cent dearer, and with "
                "notice of six weeks."
            ],
        ),
        Body(
            "3. Delivery and delay",
            [
                "Deliveries come three weeks after the order, free to the buyer's yard. For "
                "every full week of delay the buyer may deduct 1.5 per cent of the value of the "
                "late goods, up to 7.5 per cent. The three weeks of works holidays in August do "
                "not count as delay."
            ],
            [
                ("Sort", "Shortest reel"),
                ("Polyester 8 to 12 mm", "200 m"),
                ("Polyester 14 mm", "100 m"),
                ("Look-alike 14 mm", "220 m"),
                ("Look-alike 20 and 24 mm", "110 m"),
                ("Dyneema 5 to 10 mm", "100 m"),
            ],
        ),
        Body(
            "4. Faulty goods",
            [
                "The buyer looks through the goods within ten working days. For faults which "
                "can only be seen on unrolling he has six months. The maker replaces the whole "
                "reel and not the metres."
            ],
        ),
        Body(
            "5. Area",
            [
                "In the counties of Essex, Suffolk and Norfolk the maker sells to nobody else "
                "who has a shop. The buyer in turn does not sell ropes of other makers under the "
                "name of Kordelia."
            ],
        ),
        Body(
            "6. Term",
            [
                "The agreement runs until 31 December 2027. It goes on for two years each time, "
                "unless one side ends it in writing six months before."
            ],
        ),
    ],
)

AUDIT = Page(
    "Anaesthesia audit 2025",
    "Fernbank Veterinary Practice. Put together by Kayleigh Duffin and Samir Haddad from the "
    "anaesthetic sheets, and discussed with the vets on 22 January 2026.",
    bodies=[
        Body(
            "What we looked at",
            [
                "All 1,248 general anaesthetics of the year. Sedations without a tube were left "
                "out. 37 sheets were incomplete, most of them because nobody had written down "
                "the time of waking.",
            ],
        ),
        Body(
            "Results",
            [
                "Three animals died within 48 hours: two rabbits and an old cat with a bad "
                "heart. In 2024 it had been five. No dog was lost.",
            ],
            [
                ("Species", "Anaesthetics"),
                ("Dogs", "561"),
                ("Cats", "498"),
                ("Rabbits", "142"),
                ("Others", "47"),
            ],
        ),
        Body(
            "Cold patients",
            [
                "Cold means under 36.5 degrees. One patient in five woke up cold, and among the "
                "dentals it was one in three, since they lie on a wet table for a long time. "
                "The warm air blanket was used in only 40 per cent of the dentals. The reason "
                "is simple: its socket is on the wrong wall.",
            ],
        ),
        Body(
            "What changes",
            [
                "The socket is moved. Warm air from the first injection on, and socks for cats. "
                "A nurse does nothing but watch, from the first injection until the animal "
                "lifts its head; Helen Sarkis insists on it. Rabbits are intubated or get the "
                "mask that seals, and stay on oxygen for twenty minutes afterwards.",
                "We do the audit again in January 2027 and hope for fewer than one in ten.",
            ],
            break_before=True,
        ),
    ],
)


def write_folders(place: pathlib.Path) -> None:
    """All three below ``place``."""
    shutil.copytree(FOLDERS, place, dirs_exist_ok=True)
    write_page(place / "trade" / "terms" / "frame-agreement-kordelia.docx", AGREEMENT)
    write_page(place / "practice" / "lists" / "anaesthesia-audit-2025.pdf", AUDIT)
