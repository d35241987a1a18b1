"""The words of the planted-fact corpus: kinds of documents, what they state, and how it is asked.

Questions are paraphrases: they share the entity's name with the statement and little else. The
first question of an attribute is asked in the set to tune on, the second in the held-out set.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIRST", "KINDS", "LAST", "Attribute", "Kind"]


@dataclass(frozen=True)
class Attribute:
    """``value`` names a maker of values in `planted`. ``yearly``: stated of one year, ``{y}``."""

    name: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, str]
    yearly: bool = False
    compare: str = ""


@dataclass(frozen=True)
class Kind:
    """``names`` are entities; a ``twin`` of one differs by a letter or a number. ``filler`` is
    prose that states nothing that is asked."""

    name: str
    title: str
    names: tuple[str, ...]
    twins: tuple[str, ...]
    sections: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    filler: tuple[str, ...]


A = Attribute
_FIRST = (
    "Amara Bence Callum Dagny Elif Farid Greta Hamish Ingrid Jonas Keiko Leila Mateo Nadia "
    "Oskar Priya Quentin Rosa Stellan Tamsin Umberto Vera Willem Yasmin Zoltan"
)
FIRST = _FIRST.split()
_LAST = (
    "Abara Birkeland Castellan Dunmore Eklund Farrow Gallacher Hollis Ivarsson Jardine "
    "Kessler Lindqvist Marchetti Novak Okafor Petersen Quillan Rahimi Sorensen Thackeray "
    "Ulrich Vandermeer Whitlock Yardley Zielinski"
)
LAST = _LAST.split()

PRODUCT = Kind(
    "product",
    "Data sheet: {e}",
    (
        *("Brisk 240 pump", "Corvid 12 winch", "Delta 7 compressor", "Ember 300 kiln"),
        *("Falcon 45 drill press", "Grove 18 mulcher", "Heron 600 crane scale", "Ibex 9 hoist"),
        *("Juniper 33 humidifier", "Kestrel 80 generator"),
    ),
    (
        *("Brisk 420 pump", "Corvid 21 winch", "Delta 9 compressor", "Ember 350 kiln"),
        *("Falcon 54 drill press", "Grove 81 mulcher", "Heron 650 crane scale", "Ibex 6 hoist"),
        *("Juniper 38 humidifier", "Kestrel 60 generator"),
    ),
    ("Overview", "Installation", "Performance", "Ordering", "Care", "Compliance"),
    (
        A(
            "warranty",
            "months",
            (
                "The {e} comes with a warranty of {v}.",
                "Defects of material in the {e} are covered by a warranty of {v} from delivery.",
            ),
            (
                "How long is the guarantee on the {e}?",
                "For what period is the {e} under warranty?",
            ),
            compare="Which has the longer warranty, the {a} or the {b}?",
        ),
        A(
            "weight",
            "kilograms",
            ("Without its packaging the {e} weighs {v}.", "The {e} has a net weight of {v}."),
            ("How heavy is the {e}?", "What does the {e} weigh?"),
            compare="Which is heavier, the {a} or the {b}?",
        ),
        A(
            "noise",
            "decibels",
            (
                "At one metre the {e} produces a sound level of {v}.",
                "The noise of the {e} was measured as {v} at full load.",
            ),
            ("How loud is the {e}?", "What noise level does the {e} produce?"),
            compare="Which is louder, the {a} or the {b}?",
        ),
        A(
            "price",
            "euros",
            (
                "The list price of the {e} is {v}, taxes not included.",
                "A single {e} is sold for {v} before tax.",
            ),
            ("How much does the {e} cost?", "What is the price of the {e}?"),
            compare="Which costs more, the {a} or the {b}?",
        ),
        A(
            "factory",
            "town",
            ("The {e} is built at our works in {v}.", "Every {e} is assembled in {v}."),
            ("Where is the {e} manufactured?", "In which town is the {e} made?"),
        ),
        A(
            "temperature",
            "celsius",
            (
                "The {e} may be operated at ambient temperatures of up to {v}.",
                "The {e} must not be run where the air is warmer than {v}.",
            ),
            (
                "What is the highest ambient temperature for running the {e}?",
                "Up to what temperature can the {e} be used?",
            ),
        ),
        A(
            "sold",
            "count",
            ("In {y} customers bought {v} units of the {e}.",),
            (
                "How many of the {e} were sold in {y}?",
                "What were the unit sales of the {e} in {y}?",
            ),
            yearly=True,
        ),
        A(
            "lead",
            "weeks",
            ("Orders for the {e} are delivered within {v}.", "The {e} ships {v} after ordering."),
            (
                "How long must a customer wait for delivery of the {e}?",
                "What is the delivery time of the {e}?",
            ),
        ),
    ),
    (
        "The housing is made of powder-coated steel and can be opened with ordinary tools.",
        "Place the unit on level ground and leave room for air to circulate on all sides.",
        "The controls are labelled in four languages, and a printed card is kept inside the lid.",
        "Spare parts can be ordered by telephone or through any of our distributors.",
        "A trained electrician should make the connection to the mains supply.",
        "Clean the outer surfaces with a damp cloth and a mild detergent.",
        "The frame carries lifting points that are marked in yellow.",
        "Customers have praised the clear display and the simple start-up procedure.",
        "All models of this family share the same mounting plate and cable entry.",
        "The declaration of conformity is supplied with every unit.",
        "Keep the original packaging in case the unit has to be returned.",
        "Do not remove the rating plate, since service staff need its serial number.",
        "The emergency stop is on the front panel and can be reached from both sides.",
        "An optional trolley makes it easier to move the unit around a workshop.",
    ),
)

POLICY = Kind(
    "policy",
    "{e}",
    (
        *("Aldgate travel policy", "Bramley expenses policy", "Cotswold remote work policy"),
        *("Dorset data retention policy", "Exmoor procurement policy", "Fenwick leave policy"),
        *("Grantham vehicle policy", "Harwich training policy", "Ilford visitor policy"),
        "Jarrow gifts policy",
    ),
    (
        *("Aldgate hospitality policy", "Bramley pensions policy", "Cotswold overtime policy"),
        *("Dorset records access policy", "Exmoor disposal policy", "Fenwick sickness policy"),
        *("Grantham cycling policy", "Harwich recruitment policy", "Ilford contractor policy"),
        "Jarrow donations policy",
    ),
    ("Purpose", "Who it applies to", "Rules", "Approval", "Records", "Review"),
    (
        A(
            "limit",
            "euros",
            (
                "Under the {e}, a line manager may approve amounts of up to {v}.",
                "The {e} lets a line manager sign off spending of no more than {v}.",
            ),
            (
                "How much can a line manager authorise under the {e}?",
                "What is a manager's approval limit in the {e}?",
            ),
            compare="Which allows the higher approval by a line manager, the {a} or the {b}?",
        ),
        A(
            "owner",
            "person",
            (
                "Questions about the {e} go to {v}, who owns it.",
                "The owner of the {e} is {v}.",
            ),
            ("Who is responsible for the {e}?", "Which person owns the {e}?"),
        ),
        A(
            "keeping",
            "years",
            (
                "Forms filled in under the {e} are kept for {v} and then destroyed.",
                "Records made under the {e} are retained for {v}.",
            ),
            (
                "For how long are records under the {e} stored?",
                "How many years are forms of the {e} retained?",
            ),
        ),
        A(
            "notice",
            "days",
            (
                "A request under the {e} must be made at least {v} in advance.",
                "The {e} asks staff to hand in requests no later than {v} beforehand.",
            ),
            (
                "How far ahead must requests under the {e} be submitted?",
                "What advance notice does the {e} require for a request?",
            ),
            compare="Which asks for more notice of a request, the {a} or the {b}?",
        ),
        A(
            "review",
            "date",
            ("The next review of the {e} is due on {v}.", "The {e} will be reviewed on {v}."),
            ("When will the {e} be looked at again?", "On what date is the {e} due for review?"),
        ),
        A(
            "allowance",
            "pounds",
            (
                "The daily allowance under the {e} is {v}.",
                "Staff covered by the {e} may claim {v} a day for meals.",
            ),
            (
                "What can be claimed per day under the {e}?",
                "How much is the daily allowance in the {e}?",
            ),
        ),
        A(
            "breaches",
            "count",
            ("In {y} the auditors counted {v} breaches of the {e}.",),
            (
                "How many violations of the {e} were there in {y}?",
                "How often was the {e} breached in {y}?",
            ),
            yearly=True,
        ),
        A(
            "training",
            "hours",
            (
                "New staff complete {v} of instruction on the {e}.",
                "Induction to the {e} takes {v}.",
            ),
            (
                "How much instruction on the {e} do new employees get?",
                "How long is the induction to the {e}?",
            ),
        ),
    ),
    (
        "This document applies to everyone who works for us, whatever their contract.",
        "Nothing in these rules takes away a right that the law gives to staff.",
        "Line managers are expected to explain the rules to new members of their team.",
        "Exceptions are possible where they are reasonable and put in writing.",
        "We want decisions to be fair, quick and easy to understand.",
        "Copies are available in large print and can be read on the staff site.",
        "If you are not sure whether a rule applies to you, ask before you act.",
        "Repeated breaches may be dealt with under the disciplinary procedure.",
        "The staff council was consulted before these rules were adopted.",
        "Personal data is handled as the privacy notice describes.",
        "Forms can be handed in on paper or through the staff site.",
        "The finance team checks a sample of claims every month.",
        "Terms that begin with a capital letter are explained in the glossary.",
        "Good judgement matters more than the letter of any single rule.",
    ),
)

CONTRACT = Kind(
    "contract",
    "Service agreement with {e}",
    (
        *("Ashworth Catering", "Belvoir Cleaning", "Calder Logistics", "Denholm Security"),
        *("Elmbridge Gardens", "Fairlie Translations", "Glenmore Printing", "Hexham Couriers"),
        *("Inverlay Software", "Kilbride Laundry"),
    ),
    (
        *("Ashford Catering", "Belmont Cleaning", "Caldwell Logistics", "Denton Security"),
        *("Elmhurst Gardens", "Fairfax Translations", "Glenfield Printing", "Hexley Couriers"),
        *("Inverness Software", "Kilburn Laundry"),
    ),
    ("Parties", "Services", "Payment", "Duration", "Liability", "Final provisions"),
    (
        A(
            "fee",
            "euros",
            (
                "{e} is paid a fixed fee of {v} each month.",
                "The customer pays {e} {v} per calendar month.",
            ),
            ("What do we pay {e} every month?", "How high is the monthly fee of {e}?"),
            compare="Who receives the higher monthly fee, {a} or {b}?",
        ),
        A(
            "term",
            "years",
            (
                "The agreement with {e} runs for {v} from its signature.",
                "The contract with {e} has a fixed term of {v}.",
            ),
            (
                "How long does the contract with {e} last?",
                "What is the duration of the agreement with {e}?",
            ),
            compare="Whose agreement lasts longer, that of {a} or that of {b}?",
        ),
        A(
            "termination",
            "days",
            (
                "Either party may end the agreement with {e} by giving {v} of written notice.",
                "The agreement with {e} can be terminated with {v} of notice.",
            ),
            (
                "What period of notice ends the contract with {e}?",
                "With how much notice can {e} be terminated?",
            ),
        ),
        A(
            "cap",
            "euros",
            (
                "The liability of {e} is limited to {v} for each event.",
                "For any one event {e} is liable for no more than {v}.",
            ),
            (
                "What is the most {e} has to compensate for one incident?",
                "How high is the liability cap of {e}?",
            ),
        ),
        A(
            "signatory",
            "person",
            (
                "For {e} the agreement was signed by {v}.",
                "{v} signed on behalf of {e}.",
            ),
            ("Whose signature is on the contract for {e}?", "Who signed for {e}?"),
        ),
        A(
            "court",
            "town",
            (
                "Disputes with {e} are heard by the courts of {v}.",
                "The place of jurisdiction for disputes with {e} is {v}.",
            ),
            (
                "Where would a lawsuit against {e} be heard?",
                "Which town's courts decide disputes with {e}?",
            ),
        ),
        A(
            "paid",
            "euros",
            ("Payments to {e} in {y} came to {v} in total.",),
            ("How much did {e} receive in {y}?", "What was paid to {e} in the year {y}?"),
            yearly=True,
        ),
        A(
            "penalty",
            "percent",
            (
                "For each day of delay {e} owes a penalty of {v} of the monthly invoice.",
                "Late performance costs {e} {v} of the invoice a day.",
            ),
            (
                "What penalty does {e} owe for a day of delay?",
                "What share of the invoice does {e} lose per day when late?",
            ),
        ),
    ),
    (
        "The parties have negotiated this agreement in good faith and on equal terms.",
        "Changes are valid only if both parties have signed them.",
        "The supplier uses its own staff and equipment unless agreed otherwise.",
        "Invoices are sent to the accounts department and name the order number.",
        "Each party keeps confidential what it learns about the business of the other.",
        "Neither party may transfer its rights without the consent of the other.",
        "If one provision is void, the others remain in force.",
        "The supplier follows the house rules while it is on the premises.",
        "A monthly meeting is held to discuss the quality of the services.",
        "Events that nobody could have foreseen release the parties for as long as they last.",
        "Notices are sent to the addresses given on the first page.",
        "The annexes form part of this agreement.",
        "The supplier keeps the insurance that is usual in its trade.",
        "Working hours and holidays are those of the customer's site.",
    ),
)

MINUTES = Kind(
    "minutes",
    "Minutes of the {e}",
    (
        *("Allotment Committee", "Bridge Repair Board", "Canal Users Forum", "Drama Society"),
        *("Estate Residents Group", "Ferry Advisory Panel", "Gallery Trustees"),
        *("Harbour Safety Council", "Ice Rink Association", "Jubilee Hall Committee"),
    ),
    (
        *("Allotment Subcommittee", "Bridge Design Board", "Canal Owners Forum", "Dance Society"),
        *("Estate Builders Group", "Ferry Pricing Panel", "Gallery Friends"),
        *("Harbour Licensing Council", "Ice Hockey Association", "Jubilee Garden Committee"),
    ),
    ("Attendance", "Matters arising", "Money", "Reports", "Decisions", "Any other business"),
    (
        A(
            "chair",
            "person",
            (
                "The meeting of the {e} was chaired by {v}.",
                "{v} took the chair of the {e}.",
            ),
            ("Who presided over the {e}?", "Who was in the chair of the {e}?"),
        ),
        A(
            "budget",
            "euros",
            (
                "The {e} approved a budget of {v} for repairs.",
                "For repairs the {e} set aside {v}.",
            ),
            (
                "How much money did the {e} allot to repairs?",
                "What repair budget did the {e} agree to?",
            ),
            compare="Which set aside more for repairs, the {a} or the {b}?",
        ),
        A(
            "next",
            "date",
            (
                "The {e} will meet again on {v}.",
                "The next meeting of the {e} takes place on {v}.",
            ),
            ("When does the {e} convene next?", "On what day is the next {e} meeting?"),
        ),
        A(
            "venue",
            "town",
            (
                "The annual excursion of the {e} will go to {v}.",
                "This year's outing of the {e} leads to {v}.",
            ),
            ("Where is the {e} going on its trip?", "What is the destination of the {e} outing?"),
        ),
        A(
            "treasurer",
            "person",
            (
                "{v} was elected treasurer of the {e}.",
                "The accounts of the {e} will be kept by {v}, the new treasurer.",
            ),
            ("Who looks after the accounts of the {e}?", "Who became treasurer of the {e}?"),
        ),
        A(
            "fee",
            "pounds",
            (
                "The {e} raised its yearly membership fee to {v}.",
                "Members of the {e} now pay {v} a year.",
            ),
            (
                "What does belonging to the {e} cost each year?",
                "How much is the membership fee of the {e}?",
            ),
            compare="Which has the higher membership fee, the {a} or the {b}?",
        ),
        A(
            "members",
            "count",
            ("At the end of {y} the {e} had {v} members.",),
            (
                "How large was the membership of the {e} in {y}?",
                "How many members did the {e} have at the end of {y}?",
            ),
            yearly=True,
        ),
        A(
            "present",
            "small",
            (
                "The quorum of the {e} was fixed at {v} members.",
                "Decisions of the {e} need at least {v} members in the room.",
            ),
            (
                "How many members must be there for the {e} to decide?",
                "What is the quorum of the {e}?",
            ),
        ),
    ),
    (
        "Apologies were received from those who could not come.",
        "The minutes of the last meeting were read and accepted without changes.",
        "There was a lively discussion about parking near the entrance.",
        "Several members thanked the volunteers for their work over the winter.",
        "The secretary will write to the council about the broken street lamp.",
        "A report on the summer fair was circulated and noted.",
        "It was agreed to look at the lease again in the autumn.",
        "One member asked for clearer signs, and others supported this.",
        "The noticeboard will be repainted by the youth section.",
        "Two offers for new chairs were compared, and a third will be sought.",
        "The newsletter goes out as soon as the last articles are in.",
        "No interests were declared.",
        "The keys to the store room have been found.",
        "Tea and coffee were served during the break.",
    ),
)

MANUAL = Kind(
    "manual",
    "Operating manual {e}",
    (
        *("Altair lathe", "Boreas dryer", "Cygnus press", "Draco shredder", "Equinox furnace"),
        *("Fornax oven", "Gemini conveyor", "Hydra washer", "Indus mixer", "Lyra saw"),
    ),
    (
        *("Altona lathe", "Borealis dryer", "Cygnet press", "Dragoon shredder", "Equator furnace"),
        *("Fornax grill", "Gemini elevator", "Hydra sprayer", "Indigo mixer", "Lyra planer"),
    ),
    ("Safety", "Before first use", "Operation", "Maintenance", "Faults", "Disposal"),
    (
        A(
            "interval",
            "hours",
            (
                "The bearings of the {e} are greased every {v} of operation.",
                "Grease the bearings of the {e} after each {v} of running.",
            ),
            (
                "How often do the bearings of the {e} need lubrication?",
                "After how many hours are the bearings of the {e} greased?",
            ),
            compare="Which needs its bearings greased less often, the {a} or the {b}?",
        ),
        A(
            "torque",
            "newtons",
            (
                "The cover bolts of the {e} are tightened to {v}.",
                "Tighten the bolts of the cover on the {e} with {v}.",
            ),
            (
                "How tight should the cover bolts of the {e} be?",
                "What torque do the cover bolts of the {e} need?",
            ),
        ),
        A(
            "warmup",
            "minutes",
            (
                "Let the {e} warm up for {v} before work begins.",
                "After a cold start the {e} needs {v} to reach working temperature.",
            ),
            (
                "How long does the {e} take to get ready from cold?",
                "What warm-up time does the {e} need?",
            ),
            compare="Which takes longer to warm up, the {a} or the {b}?",
        ),
        A(
            "oil",
            "code",
            (
                "Fill the gearbox of the {e} only with oil {v}.",
                "The gearbox of the {e} takes oil of the type {v}.",
            ),
            (
                "Which lubricant goes into the gearbox of the {e}?",
                "What oil does the gearbox of the {e} use?",
            ),
        ),
        A(
            "alarm",
            "alarm",
            (
                "When its filter is blocked, the {e} shows the code {v}.",
                "Code {v} on the {e} means that the filter is blocked.",
            ),
            (
                "Which code does the {e} display for a clogged filter?",
                "How does the {e} signal that its filter is blocked?",
            ),
        ),
        A(
            "load",
            "kilograms",
            (
                "Never put more than {v} on the table of the {e}.",
                "The table of the {e} carries at most {v}.",
            ),
            (
                "What is the greatest load for the table of the {e}?",
                "How much weight can the table of the {e} bear?",
            ),
        ),
        A(
            "faults",
            "count",
            ("In {y} the service desk handled {v} reports about the {e}.",),
            (
                "How many service reports concerned the {e} in {y}?",
                "How often was the {e} reported to the service desk in {y}?",
            ),
            yearly=True,
        ),
        A(
            "fuse",
            "amperes",
            ("The {e} is protected by a fuse of {v}.", "Protect the {e} with a {v} fuse."),
            ("What fuse does the {e} need?", "How strong is the fuse of the {e}?"),
        ),
    ),
    (
        "Read this manual before you switch the machine on, and keep it nearby.",
        "Wear eye protection and tie back long hair.",
        "Disconnect the power before opening any cover.",
        "Children and visitors must stay behind the yellow line.",
        "Check the cables for damage at the start of every shift.",
        "The machine stops by itself when a guard is opened.",
        "Use original parts only, since others may void the approval.",
        "Keep the floor around the machine dry and free of chips.",
        "If you hear an unusual sound, stop the machine and call the service desk.",
        "Write every repair into the log book that hangs beside the control cabinet.",
        "The status lamp is green during normal work.",
        "Two people are needed to move the machine.",
        "Worn belts are replaced in pairs.",
        "At the end of its life the machine is taken apart and recycled.",
    ),
)

SITE = Kind(
    "site",
    "Site guide: {e}",
    (
        *("Arden depot", "Balfour library", "Carrick museum", "Dunbar swimming hall"),
        *("Eddington observatory", "Forth ferry terminal", "Galloway archive"),
        *("Hawick sports centre", "Islay distillery", "Kelso market hall"),
    ),
    (
        *("Ardent depot", "Balmoral library", "Carron museum", "Dunblane swimming hall"),
        *("Eddington planetarium", "Firth ferry terminal", "Gallowgate archive"),
        *("Hawick arts centre", "Isla distillery", "Kelsall market hall"),
    ),
    ("Welcome", "Getting there", "The building", "For visitors", "Staff", "History"),
    (
        A(
            "capacity",
            "count",
            (
                "No more than {v} people may be in the {e} at one time.",
                "The {e} is licensed for {v} people.",
            ),
            (
                "How many people may be inside the {e} at once?",
                "What is the permitted occupancy of the {e}?",
            ),
            compare="Which may hold more people, the {a} or the {b}?",
        ),
        A(
            "manager",
            "person",
            ("The {e} is managed by {v}.", "{v} is in charge of the {e}."),
            ("Who runs the {e}?", "Who is the manager of the {e}?"),
        ),
        A(
            "opened",
            "founded",
            (
                "The {e} first opened its doors in {v}.",
                "The {e} was inaugurated in {v}.",
            ),
            ("Since what year has the {e} been open?", "When did the {e} open?"),
            compare="Which opened earlier, the {a} or the {b}?",
        ),
        A(
            "area",
            "metres",
            (
                "The {e} has a floor area of {v}.",
                "All floors together, the {e} measures {v}.",
            ),
            ("How big is the {e}?", "What floor space does the {e} have?"),
            compare="Which is larger in floor area, the {a} or the {b}?",
        ),
        A(
            "closing",
            "clock",
            (
                "On weekdays the {e} closes at {v}.",
                "The doors of the {e} are locked at {v} from Monday to Friday.",
            ),
            (
                "Until what time can one visit the {e} during the week?",
                "When does the {e} shut on weekdays?",
            ),
        ),
        A(
            "ticket",
            "pounds",
            ("Admission to the {e} is {v} for adults.", "Adults pay {v} to enter the {e}."),
            ("What does a grown-up pay at the {e}?", "How much is adult entry to the {e}?"),
        ),
        A(
            "visits",
            "count",
            ("In {y} the {e} counted {v} visitors.",),
            (
                "How many guests came to the {e} in {y}?",
                "What was the attendance at the {e} in {y}?",
            ),
            yearly=True,
        ),
        A(
            "assembly",
            "place",
            (
                "In case of fire, people from the {e} gather at the {v}.",
                "The assembly point of the {e} is the {v}.",
            ),
            (
                "Where do people from the {e} go when there is a fire?",
                "Where is the assembly point of the {e}?",
            ),
        ),
    ),
    (
        "Visitors are welcome, and the staff at the desk are glad to help.",
        "There are bicycle stands beside the entrance and lockers inside.",
        "The building can be reached by lift, and guide dogs are allowed.",
        "Photographs may be taken without flash.",
        "Groups should announce themselves by telephone or through the website.",
        "The café sells soup, sandwiches and cakes.",
        "Lost property is kept at the desk.",
        "The roof was repaired after the great storm and is now watertight.",
        "Bags may be searched before events.",
        "Children have to be accompanied in all parts of the building.",
        "The bus stop is two minutes away on foot.",
        "A small exhibition in the foyer tells the story of the house.",
        "Please leave umbrellas in the stand.",
        "The heating runs on waste heat from the works next door.",
    ),
)

KINDS = (PRODUCT, POLICY, CONTRACT, MINUTES, MANUAL, SITE)
