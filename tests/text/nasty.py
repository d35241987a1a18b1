"""Text chosen to break tokenizers: thirty scripts, joiners, control characters, code, noise."""

from __future__ import annotations

import random

__all__ = ["LONG", "NASTY"]

SCRIPTS = {
    "latin": "Příliš žluťoučký kůň, Straße, ŒUVRE, ﬁancé naïve İstanbul ıI",
    "greek": "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία, ΣΊΣΥΦΟΣ",
    "cyrillic": "Съешь же ещё этих мягких французских булок",
    "armenian": "Բել դղյակի ձախ ժամն օֆ ազգությանը",
    "hebrew": "שָׁלוֹם עוֹלָם",
    "arabic": "نَصٌّ حَكِيمٌ لَهُ سِرٌّ قَاطِعٌ ٣٤٥ لا",
    "devanagari": "ऋषियों को सताने वाले दुष्ट राक्षसों १२३",
    "bengali": "আমি কাঁচ খেতে পারি",
    "gurmukhi": "ਮੈਂ ਗਲਾਸ ਖਾ ਸਕਦਾ ਹਾਂ",
    "gujarati": "હું કાચ ખાઇ શકું છુ",
    "tamil": "நான் கண்ணாடி சாப்பிடுவேன் ௧௨",
    "telugu": "నేను గాజు తినగలను",
    "kannada": "ನನಗೆ ಹಾನಿ ಆಗದೆ",
    "malayalam": "എനിക്ക് ഗ്ലാസ് തിന്നാം",
    "sinhala": "මට වීදුරු කෑමට හැකියි",
    "thai": "ฉันกินกระจกได้ น้ำ กำ",
    "lao": "ຂອ້ຍກິນແກ້ວໄດ້ ຳ",
    "tibetan": "ཤེལ་སྒོ་ཟ་ནས་ ང་ན་གི་མ་རེད།",
    "burmese": "ကျွန်တော် မှန်စားနိုင်တယ်",
    "georgian": "მინას ვჭამ და არა მტკივა ᲐᲑ",
    "amharic": "ብርጭቆ መብላት እችላለሁ",
    "cherokee": "ᎠᏂᏴᏫᏯ ꭰꭱ",
    "khmer": "ខ្ញុំអាចញុំកញ្ចក់បាន",
    "han": "我能吞下玻璃而不伤身体。龍𠀀㍿",
    "japanese": "私はガラスを食べられます。ｶﾞﾗｽ ㌔ パ ば",
    "korean": "나는 유리를 먹을 수 있어요 ᄒᆞᆫ글 각",
    "mongolian": "ᠮᠣᠩᠭᠣᠯ",
    "gothic": "𐌼𐌰𐌲 𐌲𐌻𐌴𐍃",
    "mathematical": "𝕳𝖊𝖑𝖑𝖔 ∀x∈ℝ ⌈x⌉ ²³½ Ⅷ ①",
    "braille": "⡌⠁⠧⠑",
}
_NOISE = random.Random(0)
NASTY = {
    **SCRIPTS,
    "empty": "",
    "emoji with joiners": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇳🇴🇸🇪 ❤️ 1️⃣",
    "control characters": "\x01\x02\x1b[31m\x7f\x85\u2028\u2029\x0b\x0c",
    "nul": "a\x00b\x00",
    "code": "def f(x):\n\tif x>=0b1010 and not y[1:]:\n\t\treturn {'a': x**2}\n\n\n    # end",
    "html": '<div class="a">&nbsp;</div>',
    "digits": "1234567890" * 20,
    "contractions": "it's IT'S we'll don't 'tis o'clock’s 'ſ",
    "spaces": "  a   b\t\tc \n\n\n d  ",
    "trailing space after a line": "a \n  ",
    "line ends": "\r\n\r\n\n\r",
    "combining": "e\u0301 a\u0308\u0323 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "zero width": "a\u200bb\u200c\u200d\ufeffc\u2060\u00ad",
    "private and unassigned": "\ue000\U000f0000\U0010ffff\ufffe\ufdd0",
    "spaces of other kinds": "a\u00a0b\u3000c\u2003d\u202f",
    "SentencePiece's mark": "▁a▁▁b ▁",
    "url": "https://example.org/a_b-c/%20?q=1#x",
    "full width": "ＡＢＣ１２３！",
    "random bytes": _NOISE.randbytes(3000).decode("utf-8", "replace"),
    "random bytes as Latin-1": _NOISE.randbytes(3000).decode("latin-1"),
    "spelled control tokens": "<s>a</s> <unk> [INST] x [/INST] [CLS] <pad> <0x41> <|im_end|>",
}
LONG = {
    "one letter": "a" * 1_000_000,
    "one space": " " * 1_000_000,
    "one emoji": "🎉" * 250_000,
    "one digit": "7" * 1_000_000,
}
