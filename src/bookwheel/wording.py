"""Which English words mean the same in a question, which only make it polite, and which turn an answer round.

Tables for `likeness.py`. Each line of a table is one entry. Fewer is safer: a missing pair of synonyms costs a hit of
the semantic cache, a wrong one serves a false answer.
"""


def _groups(lines: str) -> dict[str, str]:
    """Each word of a group to the group's first word."""
    rows = [group.split() for line in lines.strip().splitlines() for group in line.split("|")]
    return {word: row[0] for row in rows for word in row[1:]}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# By base form (see inflection.py), so "began" and "starting" are found as "begin" and "start".
SYNONYMS = _groups("""
    start begin commence | biggest largest | bigger larger | end finish | create generate | buy purchase
    choose select | modify alter | obtain get | locate situate | use utilize | film movie | car automobile
    author writer | country nation | company firm | job occupation profession | child kid | doctor physician
    picture photo photograph | directory folder dir | phone telephone | television tv | fast quick rapid
    quickly rapidly | difficult hard | easy simple | require need | allow permit | forbid prohibit | receive recieve
    help assist | happen occur | live reside | type kind | amount quantity | often frequently | talk speak
    illness sickness | lawyer attorney | found establish | participate partake | defeat beat | own possess
    protect safeguard | restart reboot | decrease reduce | merge combine | send transmit | exit quit | run execute
    requirement prerequisite | disadvantage drawback downside | result outcome | characteristic trait | computer pc
    teacher instructor | trip journey | mandatory compulsory obligatory | baby infant | sick ill
    cheap inexpensive | expensive costly pricey | rich wealthy | richest wealthiest | huge enormous
    fastest quickest | latest newest | oldest eldest | nearest closest | smallest littlest
    maximum max | information info | configuration config | repository repo | documentation docs
    administrator admin | database db | toward towards | until till | among amongst | while whilst | fall autumn
    whole entire | ask inquire | build construct | try attempt | cease stop halt | colour color | usd dollar $
    eur euro € | gbp £ | percent % pct | and &
    km kilometer kilometre kms | m meter metre | cm centimeter centimetre | mm millimeter millimetre | mile mi
    kg kilogram kilo | g gram | lb pound lbs | kb kilobyte | mb megabyte | gb gigabyte | tb terabyte | hour hr hrs
    minute mins | second secs | ms millisecond | celsius °c | january jan | february feb | august aug
    september sept sep | october oct | november nov | december dec | monday mon | tuesday tue | wednesday wed
    thursday thu | friday fri | 2 two | 3 three iii | 4 four iv | 5 five | 6 six | 7 seven vii | 8 eight viii
    9 nine | 10 ten | 11 eleven xi | 12 twelve xii | 13 thirteen xiii | 14 fourteen xiv | 15 fifteen xv
    16 sixteen xvi | 17 seventeen xvii | 18 eighteen xviii | 19 nineteen | 20 twenty | 30 thirty | 40 forty | 50 fifty
    60 sixty | 70 seventy | 80 eighty | 90 ninety | 100 hundred | 1000 thousand | 1st first | 3rd third | 4th fourth
    5th fifth | 6th sixth | 7th seventh | 8th eighth | 9th ninth | 10th tenth | 20th twentieth | 21st twentyfirst
    center centre | theater theatre | defense defence | license licence | program programme | organize organise
    organization organisation | recognize recognise | realize realise | analyze analyse | behavior behaviour
    catalog catalogue | gray grey | neighbor neighbour | labor labour | harbor harbour | favorite favourite
    address adress | separate seperate | environment enviroment | government goverment | which wich
    definition defintion | necessary neccessary | occurred occured | tomorrow tommorow | because cuz
""")

AUXILIARY = _words(
    "am is are was were be been being do does did has have had will would shall should can could may might must"
)
BE = _words("am is are was were be been being")
MODALS = {
    "can": "CAN", "could": "COULD", "may": "MAY", "might": "MIGHT", "should": "SHOULD", "ought": "SHOULD",
    "must": "MUST", "would": "WOULD", "will": "WILL", "shall": "SHALL",
}  # fmt: skip
PAST = _words("was were did had")
PERSONS = _words(
    "i you we one me us my your our mine yours ours oneself myself yourself yourselves ourselves he him his she her"
    " they them their someone anyone people user users"
)
ARTICLES = _words("a an the")
QUESTION = {
    "what": "what", "who": "who", "whose": "whose", "when": "when", "where": "where", "why": "why", "how": "how",
    "HOW": "how", "WHATTIME": "time of day",
    "HOWMANY": "how many", "HOWMUCH": "how much", "HOWLONG": "how long", "HOWOFTEN": "how often",
    "HOWFAR": "how far",
}  # fmt: skip
PREPOSITIONS = _words(
    "of in on at to from by with without for about against between into onto over under through during before after"
    " since than as per via within near inside outside like across toward upon besides except along around behind"
    " below above beyond because until among if unless while although who whose where when why how what"
)
TOGETHER = _words("in on at during")  # one before a named day, month, season or year

# Words that are something else with a capital; without a list "london" and "London" could not be one.
CASED = _words(
    "polish turkey china nice reading bath mobile rust swift lent job bush cook baker co no cs hf po he in sn as am pm"
    " aids sars"
)
# Units that are others in capitals, after a number: mW and MW, Mb and MB.
CASED_UNITS = _words("kb mb gb tb kbps mbps gbps tbps m g k s mm mg mw ma mv mj mpa ms db")
BYTES = _words("kb mb gb tb")

# Only for the reason that is told.
NEGATIONS = _words(
    "not no never without none nobody nothing nowhere neither nor cannot except unless hardly only non lack fail"
)
DIRECTIONS = _words(
    "on off before after first 1st last more less fewer most least highest lowest biggest smallest bigger smaller high"
    " low higher lower maximum minimum increase decrease rise fall enable disable start stop cease end install"
    " uninstall remove import export upload download encrypt decrypt buy sell win lose north south east west northern"
    " southern eastern western left right include exclude allow deny forbid all some any each every both to from up"
    " down above below over under open close add old new oldest newest older newer earliest latest earlier later"
    " longest shortest best worst better worse push pull read write send receive input output mount unmount lock unlock"
    " next previous inside outside positive negative profit loss asset liability upgrade downgrade fastest slowest"
    " largest tallest richest poorest cheapest tallest connect disconnect import hot cold cause prevent"
)
MONTHS = _words("january february march april may june july august september october november december")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday today yesterday tomorrow weekday weekend")
NAMED_DATES = MONTHS | DAYS | _words("q1 q2 q3 q4 fy spring summer fall winter bc ad")
DATES = NAMED_DATES | _words("year month week day quarter century decade")
UNITS = _words(
    "km m cm mm mile inch foot yard kg g lb ounce ton tonne kb mb gb tb kib mib gib bit byte hour minute second ms usd"
    " eur gbp yen rupee franc percent PERCENTPOINT celsius fahrenheit kelvin liter gallon acre hectare watt volt amp"
    " mph knot million billion trillion thousand dozen mg ml hz khz mhz ghz"
)
PAST_FORMS = _words(
    "began wrote knew went took made gave got saw came became won lost bought sold built spoke broke chose ate"
    " fought taught brought thought caught kept met paid said told sent spent led held heard ran grew drew flew"
    " threw sang swam drove rode rose fell felt stole wore died bore beat sank forgot hid laid meant understood"
    " stood struck sat shot had did"
)
PARTICIPLES = _words(
    "begun written found known gone taken made given gotten seen become won lost bought sold built spoken broken"
    " chosen eaten fought taught brought caught kept met paid said told sent spent led held heard run grown drawn"
    " flown thrown shown sung driven ridden stolen worn born beaten sunk forgotten hidden laid meant understood"
    " struck set put cut shot done reset hit hurt fed bred bound bitten cast dug dealt lent lit let left"
    " split stuck swept torn sworn slain shaken thought felt taught bid burst burnt learnt shut overthrown withdrawn"
    " undertaken mistaken proven frozen sewn sown drunk"
)

CONTRACTIONS = {
    "n't": ("not",), "'re": ("are",), "'ve": ("have",), "'ll": ("will",), "'m": ("am",), "'d": ("would",),
}  # fmt: skip
WHOLE_CONTRACTIONS = {
    first: tuple(rest)
    for line in """
    can't can not | won't will not | shan't will not | cannot can not | cant can not | dont do not | doesnt does not
    didnt did not | isnt is not | arent are not | wasnt was not | werent were not | couldnt could not
    shouldnt should not | wouldnt would not | hasnt has not | havent have not | whats what is | whos who is
    wheres where is | hows how is | whens when is | let's let | 's
    """.strip().splitlines()
    for first, *rest in (group.split() for group in line.split("|"))
}
BEFORE_IS = _words("what who where when how why which it that there here he she")  # before 's
PARTICLES = _words("on off down")
PARTICLE_VERBS = _words("turn turning turned switch switching switched shut")
NINE = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
ONES = {word: str(number) for number, word in enumerate(NINE, 1)}
# A text with words of the first table is read as English, unless words of the second say that it is not.
ENGLISH = _words(
    "the is are what how who when where why which does do did can was were has have should would of and to with for"
    " from i my you your whom whose will"
)
FOREIGN = _words(
    "der die das und ist wie wer wo wann warum welche welcher welches ein eine nicht le la les des et est qui que"
    " quel quelle où quand comment pourquoi el los las del qué quién cuándo dónde cómo cuál y il lo gli chi di della"
    " che het een wat wie waar hoe o os e quem qual onde quando från och är vad hvad hvem på nie jest kto co gdzie"
    " va bir ne mit von im dem den zu für auf une du au aux pour dans una por para con su si"
)
# Foreign words that English texts have in names.
IN_NAMES = _words("la los las des del el le y o e et os di die den du von van co lo va ne im si su au con das dem")
