"""Everything the backbone and the adapters are trained on, generated from templates.

Each task has one generator that returns `(key, input, answer)`. The key names the
content behind the input (for instance the calendar day, or the set of words), and
its hash decides whether the case belongs to training or to evaluation. A held-out
case is therefore new in content, not only in wording, and neither the backbone nor
any adapter ever sees it.
"""
import datetime
import hashlib
import json
import random

BOS, EOS, SYSTEM, USER, ASSISTANT, END = (
    "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPECIALS = [BOS, EOS, SYSTEM, USER, ASSISTANT, END]

TASKS = ["sentiment", "sql", "extract", "date", "sort", "reverse", "number"]


def held_out(task, key):
    digest = hashlib.sha256(f"{task}|{key}".encode()).digest()
    return digest[0] < 26  # about one case in ten


def prompt(text, system=None):
    head = f"{SYSTEM}{system}{END}" if system else ""
    return f"{head}{USER}{text}{END}{ASSISTANT}"


# --- word lists -----------------------------------------------------------------

WORDS = (
    "apple anchor bread bridge candle castle cloud desk dragon eagle engine feather "
    "forest garden glass hammer honey island jacket jungle kettle king ladder lemon "
    "lion market mirror mountain needle night ocean orange paper pencil pillow planet "
    "queen quilt rabbit ribbon river rocket saddle silver snow spoon stone storm table "
    "tiger tower train turtle umbrella valley violin wagon water whale winter wolf "
    "yacht yellow zebra zipper").split()

NAMES = (
    "Anna Ben Carla David Emma Felix Greta Hugo Ines Jonas Kira Leo Maria Nils Olga "
    "Paul Rosa Simon Tara Viktor Wanda Yusuf Zoe Alice Bruno Clara Daniel Elena Frank "
    "Hana Ivan Julia Karl Laura Marco Nina Oscar Peter Sara Thomas").split()

CITIES = (
    "Oslo Paris Berlin Madrid Rome Lisbon Vienna Prague Dublin Athens London Tokyo "
    "Cairo Lima Delhi Sydney Boston Chicago Denver Toronto Geneva Milan Porto Munich "
    "Warsaw Zurich").split()

ITEMS = (
    "lamps chairs tables books pens cups plates shirts shoes hats bags clocks phones "
    "cameras bottles boxes keys towels candles mirrors carpets pillows spoons forks "
    "knives radios bikes balls maps coins").split()

MONTHS = ("January February March April May June July August September October "
          "November December").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

SUBJECTS = (
    "food soup pizza coffee service waiter hotel room bed movie film actor story music "
    "book phone screen battery camera laptop keyboard jacket bag car train driver app "
    "support delivery price").split()

POSITIVE = (
    "great good excellent wonderful fantastic amazing lovely superb brilliant perfect "
    "delightful charming delicious friendly beautiful impressive outstanding pleasant "
    "reliable helpful fresh clever comfortable fun").split()
NEGATIVE = (
    "terrible bad awful horrible poor disappointing dreadful boring ugly useless slow "
    "broken rude dirty cheap annoying weak painful noisy cold stale sad confusing "
    "uncomfortable").split()
NEUTRAL = "average ordinary standard typical acceptable usual normal plain".split()

POSITIVE_END = [
    "I loved it", "I will come back", "highly recommended", "I am very happy",
    "worth every cent", "it made my day", "five stars", "I enjoyed every minute",
    "it works like a charm", "everyone was smiling", "I would buy it again",
    "what a treat", "thank you so much"]
NEGATIVE_END = [
    "I hated it", "never again", "I want my money back", "stay away",
    "a waste of money", "it ruined my day", "one star", "I regret it",
    "it broke after a week", "we left early", "I would not buy it again",
    "what a mess", "save your money"]
NEUTRAL_END = [
    "nothing special", "it does the job", "neither good nor bad", "it is what it is",
    "no strong opinion", "I have seen better and worse", "three stars",
    "about what I expected", "it was fine I guess", "just the usual"]

UNITS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen "
         "fourteen fifteen sixteen seventeen eighteen nineteen").split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


# --- tasks ----------------------------------------------------------------------

def sentiment(r):
    label = r.choice(["positive", "negative", "neutral"])
    very = lambda: r.choice(["", "", "very ", "really ", "so ", "quite "])
    subject, other = r.sample(SUBJECTS, 2)
    was = r.choice(["was", "is"])

    def clause(s, kind):
        if kind == "neutral":
            return f"the {s} {was} {r.choice(NEUTRAL)}"
        good, bad = (POSITIVE, NEGATIVE) if kind == "positive" else (NEGATIVE, POSITIVE)
        # A negated adjective of the opposite kind must be read as this kind.
        if r.random() < 0.2:
            return f"the {s} {was} not {r.choice(bad)}" + r.choice(["", " at all"])
        return f"the {s} {was} {very()}{r.choice(good)}"

    ends = {"positive": POSITIVE_END, "negative": NEGATIVE_END, "neutral": NEUTRAL_END}[label]
    form = r.randrange(6)
    if form == 0:
        text = clause(subject, label)
    elif form == 1:
        text = f"{clause(subject, label)} and {clause(other, label)}"
    elif form == 2:
        text = f"{clause(subject, label)}, {r.choice(ends)}"
    elif form == 3:
        text = f"{r.choice(ends)}, {clause(subject, label)}"
    elif form == 4:
        # After "but" the second clause gives the verdict.
        first = r.choice([k for k in ("positive", "negative") if k != label])
        text = f"{clause(subject, first)} but {clause(other, label)}, {r.choice(ends)}"
    else:
        text = f"{r.choice(ends)}, {clause(subject, label)} and {clause(other, label)}"
    if r.random() < 0.6:
        text = text[0].upper() + text[1:]
    text += r.choice(["", ".", "!"] if label != "neutral" else ["", "."])
    return text.lower().strip(".!"), text, label


TABLES = {
    "users": (["name", "email", "age", "city"], ["age"], ["name", "city"]),
    "orders": (["id", "total", "status", "date"], ["total", "id"], ["status", "date"]),
    "products": (["name", "price", "stock", "color"], ["price", "stock"], ["name", "color"]),
    "employees": (["name", "salary", "team", "age"], ["salary", "age"], ["name", "team"]),
    "books": (["title", "author", "year", "pages"], ["year", "pages"], ["title", "author"]),
    "cities": (["name", "country", "area", "mayor"], ["area"], ["name", "country"]),
    "songs": (["title", "artist", "length", "genre"], ["length"], ["artist", "genre"]),
    "cars": (["brand", "model", "price", "year"], ["price", "year"], ["brand", "model"]),
}
VALUES = {
    "name": NAMES, "city": CITIES, "status": ["open", "shipped", "paid", "late"],
    "date": ["today", "yesterday"], "color": ["red", "green", "blue", "black", "white"],
    "team": ["sales", "support", "design", "finance"], "title": ["Dune", "Emma", "Ulysses"],
    "author": NAMES, "country": ["Norway", "France", "Spain", "Japan", "Peru"],
    "artist": NAMES, "genre": ["jazz", "rock", "pop", "folk"],
    "brand": ["Volvo", "Fiat", "Ford", "Honda"], "model": ["sport", "city", "family"],
}


def sql(r):
    table = r.choice(list(TABLES))
    columns, numeric, textual = TABLES[table]
    where = phrase = ""
    if r.random() < 0.65:
        if r.random() < 0.55:
            column, value = r.choice(numeric), r.choice([r.randrange(2, 100), r.randrange(100, 3000)])
            op, words = r.choice([
                (">", "above"), (">", "greater than"), (">", "more than"),
                ("<", "below"), ("<", "less than"), ("<", "under"), ("=", "equal to")])
            where, phrase = f" WHERE {column} {op} {value}", f" with {column} {words} {value}"
        else:
            column = r.choice(textual)
            value = r.choice(VALUES[column])
            where = f" WHERE {column} = '{value}'"
            phrase = r.choice([f" whose {column} is {value}", f" with {column} {value}"])
    form = r.randrange(5)
    tail = tailphrase = ""
    if form == 0:
        ask = r.choice(["how many {t} are there", "count the {t}", "number of {t}"]).format(t=table)
        head = f"SELECT COUNT(*) FROM {table}"
    elif form == 1:
        fn, word = r.choice([("AVG", "average"), ("MAX", "highest"), ("MIN", "lowest"), ("SUM", "total")])
        column = r.choice([c for c in numeric if c != "total"])
        ask = r.choice(["what is the {w} {c} of {t}", "{w} {c} of all {t}", "find the {w} {c} of the {t}"])
        ask = ask.format(w=word, c=column, t=table)
        head = f"SELECT {fn}({column}) FROM {table}"
    else:
        verb = r.choice(["show", "list", "give me", "find"])
        if form == 2:
            ask, head = f"{verb} {r.choice(['all', 'the', 'every column of the'])} {table}", f"SELECT * FROM {table}"
        else:
            picked = r.sample(columns, r.choice([1, 2]))
            ask = f"{verb} the {' and '.join(picked)} of {r.choice(['all ', ''])}{table}"
            head = f"SELECT {', '.join(picked)} FROM {table}"
        if r.random() < 0.4:
            column = r.choice(columns)
            down = r.random() < 0.5
            tail = f" ORDER BY {column}" + (" DESC" if down else "")
            tailphrase = f" {r.choice(['sorted', 'ordered'])} by {column}" + (" descending" if down else "")
        if r.random() < 0.25:
            n = r.randrange(2, 30)
            tail += f" LIMIT {n}"
            tailphrase += r.choice([f" limit {n}", f", only {n} rows", f", at most {n}"])
    answer = f"{head}{where}{tail};"
    return answer, ask + phrase + tailphrase, answer


ORDER_FORMS = [
    "{name} from {city} wants {n} {item}",
    "{name} from {city} ordered {n} {item}.",
    "Please send {n} {item} to {name} in {city}.",
    "{city}: {n} {item} for {name}",
    "Hello, I am {name}, I live in {city} and I need {n} {item}.",
    "Order for {name} ({city}): {n} {item}",
    "Can you ship {n} {item} to {city}? My name is {name}.",
    "{n} {item} for {name}, {city}",
    "I need {n} {item} delivered to {city}, {name}",
    "In {city}, {name} bought {n} {item} today.",
    "Customer {name} asks for {n} {item}, address {city}",
    "{name} would like to buy {n} {item} and lives in {city}.",
]


def order(r):
    return {"name": r.choice(NAMES), "city": r.choice(CITIES), "item": r.choice(ITEMS),
            "n": r.randrange(2, 100)}


def extract(r):
    o = order(r)
    answer = json.dumps({"name": o["name"], "city": o["city"], "item": o["item"], "qty": o["n"]})
    return f"{o['name']} {o['city']} {o['item']}", r.choice(ORDER_FORMS).format(**o), answer


def ordinal(d):
    suffix = "th" if 10 <= d % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    return f"{d}{suffix}"


def random_day(r):
    return datetime.date(1900, 1, 1) + datetime.timedelta(days=r.randrange(73000))


def written_day(r, day):
    y, m, d = day.year, day.month, day.day
    name = MONTHS[m - 1]
    short = name[:3]
    return r.choice([
        f"{ordinal(d)} of {name} {y}", f"the {ordinal(d)} of {name}, {y}", f"{d} {name} {y}",
        f"{ordinal(d)} {name} {y}", f"{name} {d}, {y}", f"{name} {ordinal(d)}, {y}",
        f"{d} {short} {y}", f"{short} {d}, {y}", f"{y} {name} {d}", f"{d}.{m}.{y}",
        f"{d:02d}.{m:02d}.{y}", f"{y}/{m:02d}/{d:02d}",
        f"{DAYS[day.weekday()]}, {d} {name} {y}", f"{DAYS[day.weekday()]}, {name} {d}, {y}"])


def date(r):
    day = random_day(r)
    frame = r.choice(["{}", "{}", "{}", "{}", "on {}", "due {}", "We met on {}.", "The party is on {}."])
    return day.isoformat(), frame.format(written_day(r, day)), day.isoformat()


def word_list(r):
    while True:
        words = r.sample(WORDS, r.choice([3, 4, 4, 5, 5]))
        # A list that is already in order, or in reverse order, would have the same
        # answer for two behaviours and so could not tell the adapters apart.
        if words != sorted(words) and words[::-1] != sorted(words):
            return words


def sort(r):
    words = word_list(r)
    return " ".join(sorted(words)), " ".join(words), " ".join(sorted(words))


def reverse(r):
    words = word_list(r)
    return " ".join(sorted(words)), " ".join(words), " ".join(words[::-1])


def spelled(n, joiner="and "):
    if n >= 1000:
        rest = n % 1000
        link = (" " + (joiner if rest < 100 else "") + spelled(rest, joiner)) if rest else ""
        return f"{spelled(n // 1000, joiner)} thousand{link}"
    if n >= 100:
        rest = n % 100
        return f"{UNITS[n // 100]} hundred" + (f" {joiner}{spelled(rest)}" if rest else "")
    if n >= 20:
        return TENS[n // 10] + (f" {UNITS[n % 10]}" if n % 10 else "")
    return UNITS[n]


def number(r):
    n = r.choice([r.randrange(21, 1000), r.randrange(1000, 10000), r.randrange(1000, 100000),
                  r.randrange(1, 100) * 1000 + r.choice([0, r.randrange(100)])])
    return str(n), spelled(n, r.choice(["and ", ""])), str(n)


GENERATORS = {"sentiment": sentiment, "sql": sql, "extract": extract, "date": date,
              "sort": sort, "reverse": reverse, "number": number}
# "sort" and "reverse" share their inputs, so they also share the split.
SPLIT = {"reverse": "sort"}


def sample(task, r, evaluation=False):
    """Draw one case from the wanted side of the split."""
    while True:
        key, text, answer = GENERATORS[task](r)
        if held_out(SPLIT.get(task, task), key) == evaluation:
            return text, answer


# --- pretraining corpus ---------------------------------------------------------
#
# A document is a list of (text, weight) pieces. What follows from the words before
# it counts fully in the loss, free text that nobody could predict counts less.

FREE, SURE = 0.25, 1.0


def doc_story(r):
    sentences = []
    for _ in range(r.randrange(1, 4)):
        a, b = r.sample(NAMES, 2)
        day = random_day(r)
        sentences.append(r.choice([
            f"{a} went to {r.choice(CITIES)} with {b}.",
            f"{a} saw a {r.choice(WORDS)} near the {r.choice(WORDS)}.",
            f"On {r.choice(DAYS)} {a} bought {spelled(r.randrange(2, 40))} {r.choice(ITEMS)} for {b}.",
            f"The {r.choice(SUBJECTS)} in {r.choice(CITIES)} was {r.choice(POSITIVE)}, and {a} was happy.",
            f"The {r.choice(SUBJECTS)} was {r.choice(NEGATIVE)}, so {a} went home.",
            f"{a} was born in {MONTHS[day.month - 1]} {day.year} in {r.choice(CITIES)}.",
            f"Then {a} gave the {r.choice(WORDS)} to {b}, and {b} gave {a} a {r.choice(WORDS)}.",
            f"It was a {r.choice(['long', 'short', 'warm', 'cold', 'quiet'])} day, and {a} read a book.",
            f"{b} asked: what is the price of the {r.choice(WORDS)}? {a} said: {r.randrange(2, 99)}.",
        ]))
    return [(" ".join(sentences), 0.5)]


def doc_words(r):
    """Show one list of words in several orders, as notes in a notebook would."""
    words, _ = sample("sort", r)
    words = words.split()
    glue = r.choice([" ", " ", ", "])
    parts = [("List: ", glue.join(words)), ]
    views = [("A to Z: ", sorted(words)), ("Last to first: ", words[::-1]), ("Again: ", words),
             ("A to Z: ", sorted(words)), ("Count: ", [str(len(words))]), ("Last: ", words[-1:]),
             ("Lowest letter: ", sorted(words)[:1])]
    out = [("".join(parts[0]), FREE)]
    for title, view in r.sample(views, r.choice([2, 3])):
        out.append(("\n" + title, FREE))
        out.append((glue.join(view), SURE))
    return out


def doc_days(r):
    while True:
        day = random_day(r)
        if not held_out("date", day.isoformat()):
            break
    a, b = written_day(r, day), written_day(r, day)
    iso = day.isoformat()
    form = r.randrange(5)
    if form == 0:
        return [(f"The letter of {a} is filed under ", FREE), (f"{iso}.", SURE)]
    if form == 1:
        return [(f"{a} = ", FREE), (f"{iso}", SURE)]
    if form == 2:
        return [(f"Log {iso}: year ", FREE), (f"{day.year}, month {day.month}, {MONTHS[day.month - 1]}, day {day.day}", SURE)]
    if form == 3:
        return [(f"Calendar: {a}; ISO ", FREE), (iso, SURE), (f"; {r.choice(NAMES)} has a visit.", FREE)]
    return [(f"{iso} is ", FREE), (f"{MONTHS[day.month - 1]} {day.day}, {day.year}", SURE)]


def doc_sql(r):
    text, answer = sample("sql", r)
    if r.random() < 0.15:
        return [(f"sql> ", FREE), (answer, 0.5)]
    return [(r.choice(["-- ", "/* ", "# "]) + text + "\n", FREE), (answer, SURE)]


def doc_record(r):
    """Show an order together with a record of it; the fields come in any selection."""
    while True:
        o = order(r)
        if not held_out("extract", f"{o['name']} {o['city']} {o['item']}"):
            break
    fields = [("name", o["name"]), ("city", o["city"]), ("item", o["item"]), ("qty", o["n"])]
    if r.random() < 0.7:
        r.shuffle(fields)
        fields = fields[:r.choice([1, 2, 3, 4])]
    text = r.choice(ORDER_FORMS).format(**o)
    if r.random() < 0.25:
        return [(f"{text}\n", FREE)] + [p for k, v in fields for p in ((f"{k}: ", FREE), (f"{v}\n", SURE))]
    # The first key is a free choice, so the text announces the keys beforehand.
    keys = " ".join(k for k, _ in fields)
    return [(f"Note: {text} [{keys}]\n", FREE), (json.dumps(dict(fields)), SURE)]


def doc_review(r):
    text, label = sample("sentiment", r)
    stars = {"positive": 5, "neutral": 3, "negative": 1}[label]
    mood = {"positive": "happy", "neutral": "calm", "negative": "angry"}[label]
    return [(f"Review: {text}\n", FREE), r.choice([
        (f"Rating: {stars}/5", SURE), (f"The guest was {mood}.", SURE),
        (f"Mood: {label}", SURE), (f"Rating: {stars}/5, {mood}", SURE)])]


def doc_number(r):
    text, answer = sample("number", r)
    form = r.randrange(4)
    if form == 0:
        return [(f"{answer} is written ", FREE), (spelled(int(answer)), SURE)]
    if form == 1:
        return [(f"{r.choice(NAMES)} paid {text} (", FREE), (f"{answer}) coins.", SURE)]
    return [(f"{text} = ", FREE), (answer, SURE)]


LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORLD = ["é", "ü", "ñ", "ß", "å", "ø", "ç", "日本", "語", "мир", "да", "γεια", "€", "😀", "🚀", "שלום", "–", "“x”"]


def random_text(r):
    """Anything a user may type: cases of all tasks, made-up words, symbols, UTF-8."""
    kind = r.random()
    if kind < 0.55:
        return sample(r.choice(TASKS), r)[0]
    if kind < 0.7:
        return doc_story(r)[0][0]
    words = []
    for _ in range(r.randrange(1, 7)):
        words.append(r.choice([
            "".join(r.choice(LETTERS) for _ in range(r.randrange(1, 8))),
            r.choice(WORDS), r.choice(NAMES), str(r.randrange(10000)), r.choice(WORLD),
            "".join(r.choice("!?#$%&()*+,-./:;<=>@[]_{|}~") for _ in range(r.randrange(1, 3))),
            r.choice(WORDS).capitalize(), r.choice(ITEMS)]))
    return " ".join(words)


SYSTEMS = ["You are a helpful assistant.", "Be brief.", "You are the Patchbay starter model.",
           "Answer politely."]


def doc_chat(r):
    """The default behaviour in a conversation is to say the user's words back."""
    out = []
    if r.random() < 0.1:
        out.append((f"{SYSTEM}{r.choice(SYSTEMS)}{END}", FREE))
    for _ in range(r.choice([1, 1, 1, 2])):
        text = random_text(r)
        out += [(f"{USER}{text}{END}{ASSISTANT}", 0.1), (f"{text}{END}", SURE)]
    return out


MIX = [(doc_story, 5), (doc_words, 24), (doc_days, 14), (doc_sql, 14), (doc_record, 13),
       (doc_review, 9), (doc_number, 8), (doc_chat, 22)]


def document(r):
    make = r.choices([m for m, _ in MIX], [w for _, w in MIX])[0]
    pieces = make(r)
    if make is not doc_chat and r.random() < 0.3:
        # Plain text may or may not start with the mark, so both ways work later.
        pieces = [(BOS, 0.0)] + pieces
    return pieces + [(EOS, SURE)]
