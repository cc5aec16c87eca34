"""The words that content is made of. All banks of one sort have the same size in every theme.

No text holds a double quote, a comma, a semicolon, a bar or a bracket of any sort but `<` and `>`,
since prompts use those to separate texts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """One little world: ten things, four places ("at the ..."), six states ("it is ...")."""

    name: str
    items: tuple[str, ...]
    places: tuple[str, ...]
    states: tuple[str, ...]


def _theme(name: str, items: str, places: str, states: str) -> Theme:
    banks = [tuple(word.strip() for word in bank.split(",")) for bank in (items, places, states)]
    return Theme(name, *banks)


THEMES: tuple[Theme, ...] = (
    _theme(
        "bakery",
        "rye loaf, almond croissant, cheese scone, seed roll, plum tart, oat biscuit, walnut "
        "bread, lemon cake, spelt bun, ginger slice",
        "bread counter, oven room, cake shelf, flour store",
        "sold out, half price, still warm, free of nuts, baked twice, cut to order",
    ),
    _theme(
        "library",
        "atlas, picture book, crime novel, song book, old newspaper, city map, travel diary, "
        "dictionary, comic, film script",
        "reading room, loan desk, map cabinet, book return",
        "on loan, kept in the dark, open to all, newly bound, hard to find, read aloud",
    ),
    _theme(
        "garden",
        "bean row, pear tree, herb bed, rain barrel, tool shed, compost heap, rose arch, bee hive, "
        "fern corner, water lily",
        "glass house, orchard gate, seed bench, garden pond",
        "in full leaf, watered at dawn, covered with straw, in bloom, due for pruning, left to "
        "grow",
    ),
    _theme(
        "bicycles",
        "cargo bike, brake cable, chain guard, child seat, front lamp, gear hub, pump, saddle bag, "
        "spare tube, truing stand",
        "repair bench, bike cellar, test track, parts drawer",
        "ready for pick-up, cleaned and oiled, out of stock, safe to ride, under repair, on trial",
    ),
    _theme(
        "museum",
        "bronze bell, clay tablet, glass eye, iron key, jade ring, loom, sailor's chest, stone "
        "axe, sundial, wax seal",
        "east wing, coin cabinet, cloak room, sculpture court",
        "on display, behind glass, lent abroad, newly dated, photographed, under study",
    ),
    _theme(
        "harbour",
        "tug boat, lobster trap, life ring, fog horn, anchor chain, ferry ramp, fish crate, "
        "mooring rope, pilot flag, tide gauge",
        "north pier, customs shed, slipway, fuel dock",
        "tied up, painted red, under water, out at sea, checked by divers, swept by waves",
    ),
    _theme(
        "music",
        "alto flute, bass drum, cello bow, choir folder, grand piano, harp string, horn mute, "
        "metronome, music stand, viola case",
        "practice room, concert hall, score archive, stage door",
        "in tune, out of tune, on hire, strung anew, kept humid, played in pairs",
    ),
    _theme(
        "stars",
        "comet chart, eyepiece, filter wheel, lunar globe, meteor count, moon map, planet walk, "
        "solar scope, star wheel, tripod",
        "dome, viewing deck, dark field, lens workshop",
        "in focus, aligned to north, visible all night, free to borrow, covered by cloud, cooled "
        "down",
    ),
    _theme(
        "hiking",
        "bog crossing, camp stove, cliff path, hill fort, mountain hut, rope bridge, ridge route, "
        "summit book, trail map, wool blanket",
        "trail head, ranger post, spring, saddle point",
        "well marked, wet after rain, open from dawn, steep but short, closed to dogs, easy to "
        "miss",
    ),
    _theme(
        "pottery",
        "ash glaze, bread crock, clay press, egg cup, kiln shelf, milk jug, oil lamp, slip dish, "
        "soup bowl, tea caddy",
        "wheel room, drying rack, kiln yard, glaze bench",
        "fired twice, still damp, glazed inside, signed below, thrown by hand, cool enough to "
        "touch",
    ),
    _theme(
        "cinema",
        "silent film, short film, double bill, sing-along, matinee, film quiz, foyer piano, "
        "poster, projector, velvet seat",
        "box office, small screen, foyer bar, projection booth",
        "subtitled, shown once, in black and white, fully booked, restored, free for members",
    ),
    _theme(
        "clinic",
        "blood test, eye chart, first-aid kit, flu jab, hearing test, knee brace, sleep diary, "
        "walking frame, wound check, yoga class",
        "front desk, quiet room, day ward, night pharmacy",
        "free of charge, done in minutes, by appointment, covered by insurance, paused, painless",
    ),
    _theme(
        "railway",
        "dining car, express train, freight wagon, level crossing, night train, platform clock, "
        "season ticket, signal box, sleeper car, snow plough",
        "ticket hall, platform nine, engine shed, lost property office",
        "on time, ten minutes late, full today, diverted, cleaned each night, step-free",
    ),
    _theme(
        "chess",
        "blitz round, chess clock, endgame class, opening book, pawn storm, rook ending, score "
        "sheet, team match, travel set, wooden board",
        "club room, analysis corner, trophy shelf, main stage",
        "open to beginners, rated, drawn by lot, reset, played in silence, worth two points",
    ),
    _theme(
        "weather",
        "barometer, cloud atlas, frost alarm, hail pad, ice sensor, rain gauge, snow stake, "
        "storm glass, sun recorder, wind sock",
        "roof mast, ridge station, radar hut, forecast desk",
        "read each hour, frozen, newly calibrated, off by a degree, falling fast, sheltered from "
        "wind",
    ),
    _theme(
        "software",
        "access log, backup job, build server, error page, help desk, install guide, login form, "
        "release note, search index, test report",
        "server room, support channel, code review, status board",
        "up to date, read only, rolled back, green again, kept for a year, two versions old",
    ),
    _theme(
        "dairy",
        "blue cheese, butter churn, clotted cream, goat yoghurt, hard cheese, milk pail, rennet "
        "jar, salt bath, smoked curd, whey drink",
        "cheese cave, milking parlour, cooling tank, farm shop",
        "aged for a year, made from raw milk, turned daily, low in salt, wrapped in leaves, "
        "awarded",
    ),
    _theme(
        "swimming",
        "aqua class, diving board, foam float, heated bench, kick board, lane rope, locker key, "
        "swim cap, toddler hour, water slide",
        "deep end, shower block, pool office, sun terrace",
        "open late, heated, for adults only, cleaned weekly, watched by staff, out of order",
    ),
    _theme(
        "printing",
        "art poster, book cover, business card, copper plate, ink roller, paper knife, proof "
        "sheet, type case, wedding card, wood block",
        "press room, paper store, bindery, proofing desk",
        "printed in two colours, trimmed, ready to fold, set by hand, numbered, on thick paper",
    ),
    _theme(
        "farm",
        "barn owl, corn maze, donkey ride, duck pond, hay cart, lamb pen, old tractor, pumpkin "
        "field, scarecrow, sheep dog",
        "stable yard, milk gate, hay loft, feed store",
        "good with children, fed at noon, shy, older than the farm, muddy, fenced in",
    ),
)

# What a careless writer of HTML gets wrong: characters to escape, and scripts beyond Latin.
UNUSUAL: tuple[str, ...] = (
    "salt & pepper",
    "R&D notes",
    "fish & chips",
    "a < b",
    "x > 0 && y < 9",
    "<br> tag",
    "<title> element",
    "5 > 3",
    "AT&T bill",
    "Q&A",
    "Zoë's naïve café",
    "smörgåsbord",
    "jalapeño",
    "żurek",
    "борщ",
    "чайник",
    "καφές",
    "φέτα",
    "寿司",
    "お茶",
    "北京烤鸭",
    "김치",
    "चाय",
    "قهوة",
    "שוקולד",
    "ผัดไทย",
    "🍋 sorbet",
    "½ litre",
    "100 % wool",
    "C# & F#",
)

PEOPLE: tuple[str, ...] = (
    "Amara", "Bruno", "Chen Wei", "Dagny", "Elif", "Farid", "Grete", "Hana", "Ingrid", "João",
    "Kofi", "Leïla", "Marek", "Nadia", "O'Brien", "Priya", "Quentin", "Rosa", "Sören", "Tamsin",
    "Ulla", "Vikram", "Wanjiru", "Ximena", "Yusuf", "Zuzana",
)  # fmt: skip

DAYS: tuple[str, ...] = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip

MONTHS: tuple[str, ...] = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

COLOURS: tuple[str, ...] = (
    "navy", "teal", "maroon", "olive", "indigo", "tomato", "sienna", "orchid",
    "crimson", "gold", "plum", "slategray", "seagreen", "coral", "khaki", "black",
)  # fmt: skip

# Words for ids, classes and paths: lower-case ASCII.
WORDS: tuple[str, ...] = (
    "agenda", "archive", "banner", "basket", "bulletin", "catalog", "contact", "digest", "events",
    "extras", "faq", "feature", "gallery", "guide", "help", "history", "intro", "journal", "latest",
    "lookup", "members", "menu", "news", "notes", "notice", "offers", "panel", "prices", "profile",
    "program", "recent", "review", "rules", "services", "sidebar", "story", "summary", "support",
    "team", "tips", "tools", "topics", "tour", "travel", "updates", "visit",
)  # fmt: skip

# Text patterns. Of each bank the pattern with the fewest fillings stands first (see choices.py).
SENTENCES: tuple[str, ...] = (
    "The {place} is closed on {day}.",
    "The {item} is {state} on {day}.",
    "Ask {person} about the {item}.",
    "You will find the {item} at the {place}.",
    "{person} checks the {item} every {day}.",
    "The {item} stays at the {place} until {month}.",
    "We counted {number} visitors at the {place}.",
    "Bring the {item} back by {time}.",
    "{person} opens the {place} at {time}.",
    "From {month} the {item} is {state}.",
    "Only {number} people have seen the {item}.",
    "{person} wrote {number} pages on the {item}.",
    "In {month} we moved the {item} to the {place}.",
    "Nobody but {person} may touch the {item}.",
)

TITLES: tuple[str, ...] = (
    "{Place} on {day}",
    "About the {item}",
    "{person} and the {item}",
    "The {item} in {month}",
    "{number} facts about the {item}",
    "From the {place} to the {item}",
    "Why the {item} is {state}",
    "Looking after the {item} with {person}",
    "{Item} at the {place}",
    "{Item} report for {month}",
    "Your {item} by {day}",
    "{month} at the {place}",
)

ENTRIES: tuple[str, ...] = (
    "{Item}",
    "{Item} on {day}",
    "{Item} for {person}",
    "{number} x {item}",
    "{Item} at {time}",
    "{Item} by {month}",
)

ACTIONS: tuple[str, ...] = (
    "Join", "Send", "Book now", "Sign up", "Reserve", "Search", "Order", "Subscribe", "Save",
    "Apply", "Vote", "Register", "Continue", "Get a quote", "Read more", "See all", "Find out how",
    "Ask us", "Plan a visit", "Compare",
)  # fmt: skip
