"""Phrases of English questions that mean the same, and polite openings.

Tables for `question_form`. Each block is headed by what the phrases below it become. Fewer is safer, as in `wording`.
"""

from collections.abc import Mapping, Sequence

Phrase = tuple[str, ...]


def _phrases(lines: str) -> dict[Phrase, list[tuple[Phrase, Phrase]]]:
    """The first two words, or the only one, to (phrase, what it becomes), the longest phrases first.

    A line that ends with a colon says what the phrases below it become, "-" nothing; capitals are marks of our own.
    """
    table: dict[Phrase, list[tuple[Phrase, Phrase]]] = {}
    result: Phrase = ()
    for line in lines.strip().splitlines():
        if line.endswith(":"):
            result = tuple(line[:-1].replace("-", "").split())
            continue
        for phrase in line.split("|"):
            words = tuple(phrase.split())
            table.setdefault(words[:2], []).append((words, result))
    for rows in table.values():
        rows.sort(key=lambda row: -len(row[0]))
    return table


PHRASES = _phrases("""
    when:
        in which year | in what year | at what point in time
    when was:
        what year was | which year was
    when were:
        what year were | which year were
    when did:
        what year did | which year did
    WHATTIME:
        at what time | at which time | what time
    where:
        at what place | in what place | in which place | at what location | in which location | in what location
        at which place | at which location | what location
    why:
        for what reason | for which reason | for what reasons | how come | what is the reason that
        what was the reason that | what are the reasons that | what caused it that
    who:
        which person | what person | what is the name of the person who
        what was the name of the person who | what is the name of the man who | who is the person who
        who was the person who | who was it that | who is the one who | who was the one who | who are the people who
        whom
    what:
        which
    what type:
        what sort of | what kinds of | what sorts of | what kind of | what type of
        what types of | which kind of | which type of
    HOWMANY:
        what number of | what is the number of | what are the number of | which number of | what was the number of
        what is the total number of | what was the total number of | how many
        how large is the number of | how high is the number of
    HOWMUCH:
        what amount of | what is the amount of | what quantity of | how much
    HOWLONG:
        how long | what length of time
    HOWOFTEN:
        how often | how frequently | with what frequency
    what is age of:
        how old is
    what was age of:
        how old was
    what is height of:
        how tall is
    what was height of:
        how tall was
    what is length of:
        how long is the
    what is depth of:
        how deep is
    what is width of:
        how wide is
    what is weight of:
        how heavy is
    what is size of:
        how big is | how large is
    what was size of:
        how big was | how large was
    what is speed of:
        how fast is
    HOWFAR is:
        how far away is
    HOWFAR:
        how far
    HOWFAR is between:
        what is the distance between
    HOWFAR is from:
        how far is it from
        what is the distance from
    HOW:
        how to | how can one | how does one | how would one | how could one | how can i | how do i | how could i
        how would i | how can you | how do you | how am i able to | how is it possible to | how can it be possible to
        how do i go about | how can i go about | how would i go about | how does one go about | how do i manage to
        how can i manage to | what is the way to | what is a way to | what are the steps to | what steps do i take to
        what do i need to do to | what must i do to | what do i have to do to | what do i do to
        what is the procedure to | what is the process to | what is the method to | what are the ways to
        what is the procedure for | what is the process for | what is the process of | what is the method for
        what are the steps for | what is the way of | what is the method of | what are the steps required to
        what are the steps needed to | what does it take to | in what way can i | in what way do i | in which way can i
        by what means can i | which steps do i take to | steps to | the steps to | ways to | a way to | the way to
        instructions to | instructions for | guide to
    how:
        by what means | in what way | in which way | in what manner | in what ways | by what method | in what fashion
    can i:
        is there a way to | is there any way to | is there some way to | is it possible to | would it be possible to
        are there ways to | are there any ways to | am i able to | is it possible for me to
        is there a way that i can | is there any way i can | is there a way i can | is it possible that i
        is there a possibility to | do i have the option to
    can you:
        are you able to
    can we:
        are we able to
    can one:
        is one able to
    must i:
        is it necessary to | is it required to | is it mandatory to | do i have to | do i need to
    AFEW:
        a few
    ALITTLE:
        a little
    ABIT:
        a bit
    usa:
        the us
    must:
        have to | has to | need to | needs to | am required to | is required to | are required to
    what is:
        what is the meaning of | what is the definition of | what are | what is meant by the term
        what is meant by the word | what does the term | what does the word | what is meant by | what exactly is
        what actually is | what is a definition of | what is the term | what is an explanation of | what are some
        what is the concept of
    what does:
        what does the acronym | what does the abbreviation
    what CALLED:
        how do you call | what do you call | what is the term for | what is the word for
    are there:
        are there any | are there some
    is there:
        is there any | is there some
    to:
        in order to | so as to
    and:
        as well as
    because of:
        due to | because of | owing to | on account of
    many:
        a lot of | lots of | a great deal of | a large number of
    before:
        prior to
    after:
        subsequent to
    about:
        concerning | regarding | with regard to
    like:
        such as
    more than:
        greater than
    less than:
        fewer than
    configure:
        set up | sets up | setting up
    login:
        log in | log on | logging in | sign in | signing in | log into | sign into | login
    logout:
        log out | log off | sign out | signing out | logging out
    register:
        sign up | signing up | register
    shutdown:
        shut down | shutting down | shutdown
    enable:
        turn on | turning on | turned on | switch on | switching on | activate
    enabled:
        activated | switched on
    disable:
        turn off | turning off | turned off | switch off | switching off | deactivate
    disabled:
        deactivated | switched off
    remove:
        get rid of | getting rid of
    happen:
        take place | takes place | took place | taken place
    participate:
        take part | takes part | took part | taken part
    die:
        pass away | passed away
    come from:
        come from | originate from
    made of:
        be made up of | made up of | composed of | comprised of
    in:
        located in | situated in
    at:
        located at | situated at
    on:
        located on | situated on
    capital:
        capital city
    what is the capital of:
        what city is the capital of | what city serves as the capital of | what town is the capital of
    where is:
        where can i find | where do i find | where can one find | where can you find | where could i find
        where can we find | where would i find
        what is the location of
    where was:
        what was the location of
    what is price of:
        how much is the | how much is a | how much are the
    what causes:
        what is the cause of | what are the causes of
    what caused:
        what was the cause of | what were the causes of
    whether:
        is it true that | is it correct that | is it the case that
    what happens if:
        what happens when
    what should i do if:
        what should i do if | what do i do if | what to do if | what do i do when | what should i do when
    ensure:
        make sure that | make sure | ensure that | ensure
    find:
        find out | figure out
    backup:
        back up
    YEARLY:
        per year | a year | each year | every year | annually | yearly | per annum
    DAILY:
        per day | a day | each day | every day | daily
    WEEKLY:
        per week | a week | each week | every week | weekly
    MONTHLY:
        per month | a month | each month | every month | monthly
    HOURLY:
        per hour | an hour | each hour | every hour | hourly
    wifi:
        wi fi
    username:
        user name
    timezone:
        time zone
    filename:
        file name
    free:
        free of charge | for free
    cheapest:
        least expensive
    latest:
        most recent
    most populous:
        most populated
    near:
        close to
    human:
        human being
    humans:
        human beings
    -:
        at the moment | at present | at this time | right now | currently | nowadays | actually | basically | please
        kindly
    despite:
        in spite of
    accelerate:
        speed up
    cause:
        bring about
    email:
        e mail
    emails:
        e mails
    website:
        web site
    webpage:
        web page
    usa:
        united states of america | united states | u s a | u s
    uk:
        united kingdom | u k
    un:
        united nations | u n
    eu:
        european union | e u
    nyc:
        new york city
    ww2:
        world war 2 | world war ii | world war two | wwii | ww 2 | second world war
    ww1:
        world war 1 | world war i | world war one | wwi | ww 1 | first world war
    os:
        operating system | operating systems
    who wrote:
        who is the author of | who was the author of | who is the writer of | who was the writer of | who authored
    who founded:
        who is the founder of | who was the founder of | who were the founders of | who are the founders of
    who invented:
        who is the inventor of | who was the inventor of | who were the inventors of
    who discovered:
        who was the discoverer of | who is the discoverer of
    who created:
        who is the creator of | who was the creator of | who were the creators of
    who directed:
        who is the director of | who was the director of
    who composed:
        who was the composer of | who is the composer of
    who owns:
        who is the owner of
    who won:
        who was the winner of | who is the winner of | who were the winners of
    who designed:
        who was the designer of | who is the designer of
    will:
        going to
    PERCENTPOINT:
        percentage points | percentage point
    following:
        the following
    q1:
        q 1 | 1st quarter | first quarter
    q2:
        q 2 | 2nd quarter | second quarter
    q3:
        q 3 | 3rd quarter | third quarter
    q4:
        q 4 | 4th quarter | fourth quarter
    fy:
        fiscal year | financial year
    not:
        do not | does not
    can not:
        can not
    INWORLD:
        in the world | in the whole world
""")

# What comes before the question itself. Taken off again and again, the longest first.
POLITE = _phrases("""
    -:
        please | kindly | hi | hello | hey | hi there | hello there | thanks | excuse me | ok | so | good morning
        good evening | good afternoon | quick question | a quick question | can you tell me | could you tell me
        would you tell me | will you tell me | can you please tell me | could you please tell me | can anyone tell me
        can someone tell me | could someone tell me | tell me | please tell me | let me know | please let me know
        can you let me know | could you let me know | can you show me | could you show me | show me | please show me
        teach me | can anyone explain | do you know | do you happen to know | does anyone know | does anybody know
        do you have any idea | i want to know | i would like to know | i d like to know | i need to know | i wonder
        i wanted to know | i was wondering | i am wondering | i m wondering | i want to find out
        i would like to find out | i am curious | i m curious | just wondering | just curious | any idea | any ideas
        may i ask | can i ask | could i ask | may i know | can i know | i have a question | i d like to ask
        i would like to ask | i want to ask | i want you to tell me | i would love to know | i d love to know
        it would be great to know | wondering | tell us | remind me | inform me | give me the answer
        help me understand
    explain:
        can you explain | could you explain | can you explain to me | please explain to me | explain to me
        could you explain to me | can you please explain | could you please explain | would you explain
    define:
        can you define | could you define
    what:
        explain what | describe what | define what
    what is:
        explain | define | explain the term | define the term | explain the concept of | give the definition of
        explain the meaning of | give the meaning of | give a definition of | state the definition of
    HOW:
        i need help | i need some help | i need help to | i need help with | i need assistance with | i want to
        i would like to | i d like to | i need to | i am trying to | i m trying to | can you help me
        could you help me | please help me | help me
    how:
        explain how | describe how
    why:
        explain why | describe why
    when:
        explain when
    where:
        explain where
    who wrote:
        name the author of | tell me the author of
    who founded:
        name the founder of
    who invented:
        name the inventor of
    what is the:
        can you give me the | could you give me the | give me the | can you name the | could you name the | name the
        list the
""")


def phrase_at(
    table: Mapping[Phrase, Sequence[tuple[Phrase, Phrase]]], words: Sequence[str], at: int
) -> tuple[Phrase, Phrase] | None:
    """The longest phrase of a table that stands at a place, and what it becomes; None where none does."""
    for key in (tuple(words[at : at + 2]), (words[at],)):
        for row in table.get(key, ()):
            if tuple(words[at : at + len(row[0])]) == row[0]:
                return row
    return None
