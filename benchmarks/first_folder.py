"""A small company's folder of 25 files, as `first_questions.py` asks about it.

23 of them lie in `questions/office`. The lease, a Word document, and the annual report, a PDF, are
made here. The company and everybody in it are made up.
"""

from __future__ import annotations

import pathlib
import shutil

from planted_files import Body, Page, write_page

__all__ = ["OFFICE", "write_office"]

OFFICE = pathlib.Path(__file__).parent / "questions" / "office"

LEASE = Page(
    "Lease of the workshop in Albert Street",
    "Between the Calder Valley Mill Trust (the landlord) and Alder & Finch Ltd (the tenant).",
    bodies=[
        Body(
            "1. What is let",
            [
                "The landlord lets the ground floor and the first floor of Mill 3, Albert Street, "
                "Hebden Bridge, with 640 square metres, and four parking spaces in the yard."
            ],
        ),
        Body(
            "2. Term",
            [
                "The lease begins on 1 October 2021 and ends on 30 September 2031. The tenant may "
                "end it after five years with notice of six months."
            ],
        ),
        Body(
            "3. Rent",
            [
                "The rent is 2,150 pounds a month, due on the third working day. It rises every "
                "October by the consumer price index, but by no more than 4 per cent."
            ],
            [
                ("Cost besides the rent", "Who pays"),
                ("Electricity and water", "Tenant"),
                ("Insurance of the building", "Landlord"),
                ("Repairs of the roof", "Landlord"),
                ("Repairs inside up to 300 pounds", "Tenant"),
            ],
        ),
        Body(
            "4. Use",
            [
                "The tenant may work wood with machines on weekdays between 7:00 and 19:00. "
                "Finishes with solvents need the landlord's consent in writing."
            ],
        ),
        Body(
            "5. Alterations",
            [
                "Walls and windows stay as they are, because the mill is a listed building. The "
                "tenant may put up shelves and machines and takes them away at the end."
            ],
        ),
    ],
)

REPORT = Page(
    "Annual report 2025",
    "To the members of Alder & Finch Ltd, for the year that ended on 31 December 2025. "
    "Approved by the directors on 20 February 2026.",
    bodies=[
        Body(
            "The year in short",
            [
                "2025 was our ninth year. Sales grew by 12 per cent to 611,000 pounds, and after "
                "tax 38,400 pounds remained. A wet spring kept beekeepers indoors until May, and "
                "the summer made up for it.",
                "We sold 1,764 hives, 203 more than in the year before. Two of three were "
                "Nationals. The Langstroth, which we began in 2023, found buyers mostly in "
                "Ireland and Germany.",
            ],
        ),
        Body(
            "Timber",
            [
                "Cedar became 9 per cent dearer. We used 94 cubic metres, all of it from "
                "certified forests, and burned the offcuts in the boiler, which covered three "
                "quarters of our heating.",
                "A trial with local larch was given up: the boards warped in the kiln, and one "
                "in six had to be thrown away.",
            ],
        ),
        Body(
            "People",
            [
                "Eleven people work for us, two of them part-time. Ines Carvalho finished her "
                "apprenticeship in June and stayed. There were three accidents, none of them "
                "grave.",
                "Everybody had two days of training. The dust in the workshop, measured in "
                "October, is at half of the limit.",
            ],
        ),
        Body(
            "Customers",
            [
                "Of 2,391 customers 58 per cent had bought before. Complaints fell from 71 to 44. "
                "Most were about parcels damaged on the way, so from September flat packs travel "
                "in double boxes.",
                "The open day in June brought 340 visitors and 12,900 pounds in a single day.",
            ],
            break_before=True,
        ),
        Body(
            "Accounts",
            [
                "All amounts in pounds. The loan for the planer was paid back in November, a year "
                "early. The bank account stood at 87,250 pounds at the end of the year."
            ],
            [
                ("Item", "2025"),
                ("Sales", "611,000"),
                ("Timber and parts", "248,300"),
                ("Wages", "231,700"),
                ("Rent and energy", "41,900"),
                ("Other costs", "42,200"),
                ("Tax", "8,500"),
                ("Profit after tax", "38,400"),
            ],
        ),
        Body(
            "Risks and plans",
            [
                "Our greatest risk is the price of cedar; we keep timber for four months. The old "
                "web shop cannot take card payments any more after 2026, so a new one is being "
                "built for 14,000 pounds.",
                "In 2026 we want to buy a second box jointer, to try solar panels on the south "
                "roof if the landlord agrees, and to bring out a hive for polystyrene-free "
                "shipping in one box.",
            ],
            break_before=True,
        ),
        Body(
            "Thanks",
            [
                "To everybody who sanded, packed and answered the telephone. Signed by Joan Alder "
                "and Peter Finch, directors."
            ],
        ),
    ],
)


def write_office(folder: pathlib.Path) -> None:
    """All 25 files below ``folder``."""
    shutil.copytree(OFFICE, folder, dirs_exist_ok=True)
    write_page(folder / "contracts" / "lease.docx", LEASE)
    write_page(folder / "reports" / "annual-report-2025.pdf", REPORT)
