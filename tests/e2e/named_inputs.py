"""A hundred inputs for each model by name, of many lengths, made of short lists."""

from __future__ import annotations

import itertools
import re

__all__ = ["PAIRS", "PERSONAL", "REACTIONS", "SENTENCES"]

QUERIES = (
    "how do cats purr", "what is the capital of france", "python list comprehension",
    "symptoms of the flu", "who wrote moby dick", "Why is the sky blue?", "tax deadline 2024",
    "how long do you boil an egg so that the yolk stays soft", "largest moon of saturn", "??",
)  # fmt: skip
PASSAGES = (
    "Cats purr by moving the muscles of the larynx, which open and close the glottis.",
    "Paris is the capital and most populous city of France.",
    "A list comprehension builds a list from an iterable: [x * x for x in range(10)].",
    "Fever, cough, sore throat and muscle pain are common signs of influenza.",
    "Moby-Dick; or, The Whale is an 1851 novel by Herman Melville. " * 4,
    "Air scatters short wavelengths of sunlight more than long ones, so the sky looks blue.",
    "Returns are due on 15 April; an extension moves the date to 15 October.",
    "Boil a large egg for six minutes, then cool it in ice water.",
    "Titan is larger than the planet Mercury and has lakes of methane. " * 8,
    "Ünïcode, 漢字 and emoji 🙂 are text, too.",
)  # fmt: skip
PAIRS = tuple(itertools.product(QUERIES, PASSAGES))

PEOPLE = (
    ("John Smith", "john.smith@example.com", "221B Baker Street, London"),
    ("María García", "mgarcia@correo.example", "Calle Mayor 5, Madrid"),
    ("Wei Zhang", "wei_zhang+home@mail.example.org", "12 Nanjing Road, Shanghai"),
    ("Aisha Khan", "aisha@k.example", "9 Elm Ave Apt 4, Springfield, IL 62704"),
    ("Lars Öberg", "lars.oberg@firma.example.se", "Storgatan 17, Umeå"),
    ("Nia O'Neil", "nia.o@uni.example.edu", "300 Main St, Boston, MA 02110"),
    ("T. Nguyen", "tn@x.example", "44 Lê Lợi, Huế"),
    ("Priya", "priya.r@startup.example.in", "MG Road 1, Bengaluru 560001"),
    ("Bob", "bob@bob.example", "a farm"),
    ("Anna Kowalska-Nowak", "anna@poczta.example.pl", "ul. Długa 10, Gdańsk"),
)
NOTES = (
    "My name is {0}.", "Please write to {1} or visit {2}.", "{0} lives at {2}.",
    "Call {0} at +1 (555) 010-9999 before noon.", "{0}'s passport number is X12345678.",
    "Nothing to see here, just the weather in spring.", "Wire it to account 123456789, {0}.",
    "Contact: {0}, {1}, {2}. SSN 078-05-1120. See https://example.com/u/77 for more.",
    "the new hire is called {0} and sits in the office on the second floor", "{1}",
)  # fmt: skip
PERSONAL = tuple(note.format(*person) for note, person in itertools.product(NOTES, PEOPLE))

SUBJECTS = (
    "The house", "My brother", "The old teacher", "A small dog", "The train to Rome", "It",
    "Our neighbour's garden", "The book on the table", "She", "The weather",
)  # fmt: skip
ENDS = (
    "is wonderful.", "was late again today.", "costs twenty euros.", "will come tomorrow.",
    "needs more water and a little patience.", "is very big and very old.", "likes music.",
    "was there when the children came home from school, but nobody saw it.", "is not here.",
    "can be seen from the window?",
)  # fmt: skip
SENTENCES = tuple(f"{subject} {end}" for subject, end in itertools.product(SUBJECTS, ENDS))

_REACTIONS = (
    "CC(=O)O.OCC>>CC(=O)OCC", "c1ccccc1Br.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
    "CC(C)=O.NCc1ccccc1>>CC(C)NCc1ccccc1", "O=C(Cl)c1ccccc1.N>>NC(=O)c1ccccc1",
    "C=CC=C.C=C>>C1=CCCCC1", "CCO>>CC=O", "C[Mg]Br.O=C1CCCCC1>>CC1(O)CCCCC1",
    "CC(C)(C)OC(=O)NCCc1ccccc1>>NCCc1ccccc1", "N#CC1CC1.O>>NC(=O)C1CC1",
    "OC(=O)c1ccc(F)cc1.CN>>CNC(=O)c1ccc(F)cc1", "[Na+].[C-]#N.CCCBr>>CCCC#N",
    "COC(=O)C=C.SCCO>>COC(=O)CCSCCO", "c1ccc2[nH]ccc2c1.CI>>Cn1ccc2ccccc21",
    "O=[N+]([O-])c1ccccc1>>Nc1ccccc1", "CC1CO1.Nc1ccccc1>>CC(O)CNc1ccccc1",
    "C#CCO.Ic1ccncc1>>OCC#Cc1ccncc1", "CS(=O)(=O)Cl.OCC1CC1>>CS(=O)(=O)OCC1CC1",
    "CC(=O)CC(C)=O.NN>>Cc1cc(C)[nH]n1", "OCCO.O=Cc1ccccc1>>C1COC(c2ccccc2)O1",
    "C[C@H](N)C(=O)O.CO>>COC(=O)[C@H](C)N",
)  # fmt: skip
_TOKEN = re.compile(r"\[[^\]]+]|Br|Cl|>>|[A-Za-z0-9=#()+\-.@]")


def _masked(reaction: str, which: int) -> tuple[str, str]:
    """With one token masked, at the given fifth of the reaction; and that token."""
    tokens = _TOKEN.findall(reaction)
    place = len(tokens) * which // 5
    return "".join((*tokens[:place], "[MASK]", *tokens[place + 1 :])), tokens[place]


REACTIONS = tuple(_masked(reaction, which) for which in range(5) for reaction in _REACTIONS)
assert {len(inputs) for inputs in (PAIRS, PERSONAL, SENTENCES, REACTIONS)} == {100}
