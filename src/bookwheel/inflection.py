"""English base forms without a dictionary: "creating" and "creates" are "create", "cities" is "city".

Only inflection is taken off, never a prefix or a suffix that makes another word: "able" and "unable", "rational" and
"ration", "tall" and "tallest" stay apart. A stemmer (Snowball) would join "import" and "importance", "author" and
"authority", "execution" and "executive"; for a cache a missed pair is cheap and a false one is not.
"""

import re
from functools import lru_cache

# Forms that no rule gives, after their base form.
IRREGULAR = {
    form: group.split()[0]
    for line in """
    begin began begun beginning | write wrote written writing | find found | know knew known | go went gone going
    take took taken | make made making | give gave given | get got gotten getting | see saw seen | come came coming
    become became becoming | win won winning | lose lost losing | buy bought | sell sold | build built
    speak spoke spoken | break broke broken | choose chose chosen choosing | eat ate eaten | fight fought
    teach taught | bring brought | think thought | catch caught | keep kept | meet met | pay paid | say said
    tell told | send sent | spend spent | lead led | hold held | hear heard | run ran running | grow grew grown
    draw drew drawn | fly flew flown | throw threw thrown | show shown | sing sang sung | swim swam swum
    drive drove driven driving | ride rode ridden | rise rose risen | fall fell fallen | feel felt
    steal stole stolen | wear wore worn | die died dying | lie lying | bear born | beat beaten | steal stolen
    sink sank sunk | forget forgot forgotten | hide hid hidden | lay laid | mean meant | understand understood
    stand stood | strike struck | sit sat | set setting | put putting | cut cutting | shoot shot
    do done doing did does | have has had having | add added adding | control controlled controlling
    compute computed computing | person people persons | man men | woman women | child children | foot feet
    tooth teeth | mouse mice | index indices indexes | criterion criteria | movie movies | shoe shoes | virus viruses
    bus buses | status statuses | change changed changing | arrange arranged arranging | exchange exchanged exchanging
    challenge challenged challenging | delete deleted deleting | complete completed completing
    compete competed competing | restore restored restoring | explore explored exploring | ignore ignored ignoring
    store stored storing | cause caused causing | use used using | focus focused focusing | create created creating
    compile compiled compiling | open opened opening | happen happened happening | tie tied tying
    argue argued arguing | value valued valuing | continue continued continuing | issue issued issuing
    rescue rescued rescuing | type typed typing | base based basing | agree agreed agreeing | invite invited inviting
    cancel cancelled cancelling | label labelled labelling | travel travelled travelling | free freed freeing
    """.strip().splitlines()
    for group in line.split("|")
    for form in group.split()[1:]
}
# They end like an inflection and have none, or mean something else without it.
WHOLE = frozenset(
    word
    for line in """
    united speed seed need feed bed red weed breed deed hundred sacred naked indeed embed exceed proceed succeed
    building painting meeting training setting hearing drawing marketing banking string thing king ring spring
    during morning evening ceiling wedding housing rating wing sing bring being nothing something anything
    everything planning lighting engineering sterling beijing boxing swing sting cling sling bing ping ding ming
    dressing news windows arms customs goods means always mars james this its his has was is as us yes plus thus gas
    bus physics mathematics economics politics athletics series species texas paris wales headquarters glasses
    kubernetes postgres jenkins redis linux dns https aws ios macos gps sms cms css js mbps os does less times
    odds damages shorts premises spirits savings rights manners forces powers contents terms charges proceeds
    securities authorities utilities facilities liabilities equities commodities remains papers irons woods waters
    brains pains spectacles tropics quarters barracks grounds wages directions regards thanks greens stairs works
    trousers compasses colours colors talks standings earnings holdings winnings
    netherlands philippines maldives bahamas andes alps athens brussels los angeles las
    """.splitlines()
    for word in line.split()
)
SHORTEST = 4  # letters of a word that may carry an ending
# Stems that lost an e before -ed and -ing: created, used, changed, required, configured.
_LOST_E = re.compile(
    r"""(?:
      ^[^aeiou]*[aeiouy][^aeiouwxy]  # "planing": "planned" would double its n
    | [^aeo]at | [^aeiou][aeiou][vc]
    | [vu] | [^n]g | [rdl]g | [aeiou]s | [nr]s | [nr]c | [bpdtgfkz]l | [^aeo]ur | [aeiuq]ir
    | [aui]d(?<![oe]ad)(?<!aid)(?<!oid) | [^aeou]in(?<!gin) | um | ib | ut
    | ot(?<!oot) | [^ie]ar(?<!ear) | [^a]iz | yz | [^o]ul | il(?<![aeo]il)
    )$""",
    re.VERBOSE,
)
_VOWEL = re.compile("[aeiouy]")


@lru_cache(maxsize=8192)
def base(word: str) -> str:
    """The base form of a lower-case word; the word itself where no ending is known."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in WHOLE or len(word) < SHORTEST or not word.isalpha():
        return word
    if word.endswith("s"):
        return _singular(word)
    for ending in ("ed", "ing"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1 and _VOWEL.search(stem):
            return _restored(stem)
    return word


def _singular(word: str) -> str:
    if word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > SHORTEST + 1 else word[:-1]
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "oes")):
        return word[:-2]
    return word[:-1]


def _restored(stem: str) -> str:
    """What a verb looks like without -ed or -ing."""
    if stem.endswith("i"):
        return stem[:-1] + "y"
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in "lsfz":
        return stem[:-1]
    return stem + "e" if _LOST_E.search(stem) else stem
