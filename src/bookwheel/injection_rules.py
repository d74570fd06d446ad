"""The rules of injection.py: how texts that speak to a model sound, in the main phrases of several languages.

    RULES[0].finds(lined, flat)     # True when the text, in lower case, with its lines or as one line, has it

Each is a regular expression, with words of which every match has one. Add to them what generalises;
benchmarks/injection.py says what that costs on real texts.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An order of words, and what it shows."""

    kind: str  #: as it is told
    gate: tuple[str, ...]  #: each match has one of these
    pattern: re.Pattern[str]

    def finds(self, lined: str, flat: str) -> bool:
        """Whether a text has it, with its lines or on one line."""
        if not any(word in flat for word in self.gate):
            return False
        return bool(self.pattern.search(flat) or ("\n" in lined and self.pattern.search(lined)))


_FEW = r"(?:[\w'’,-]+\s+){0,5}?"  # words between two that matter
_DROP_VERBS = (
    r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|bypass|overrule|discard|neglect|set aside"
    r"|(?:do not|don't|don’t|stop|never) (?:follow(?:ing)?|obey(?:ing)?|comply with|adhere to|listen to)"
    r"|pay no (?:attention|heed) to)"
)
_DROPS = (
    "ignor;disregard;forget;overrid;bypass;overrul;discard;neglect;set aside;follow;obey;comply;adher;listen;"
    "no attention;no heed"
)
_EARLIER = (
    r"(?:previous|prior|above|earlier|preceding|foregoing|former|existing|original|initial|system|developer|safety)"
)
_ORDERS = (
    r"(?:instructions?|prompts?|directives?|guidelines|guardrails|commands|messages?|programming|training|context|"
    r"rules"
    r"|safeguards|restrictions|conversations?|text|orders|constraints|policies)"
)
_MODEL = r"(?:ai|a\.i\.|llm|gpt|chatbot|language model|assistant|chatgpt|claude|gemini|copilot)"

# What orders look like, by language: words of which each match has one, which are looked for first because it is quick,
# and the rule. Texts are read in lower case, without invisible characters, spaces made one.
_INSTRUCTIONS: Final = (
    (
        _DROPS,
        rf"\b{_DROP_VERBS}\s+{_FEW}{_EARLIER}\s+{_FEW}{_ORDERS}\b",
    ),
    (
        _DROPS,
        rf"\b{_DROP_VERBS}\s+(?:all |any )?(?:of )?(?:your|the user'?s?|the system'?s?)\s+{_FEW}{_ORDERS}\b",
    ),
    (
        _DROPS,
        rf"\b{_DROP_VERBS}\s+(?:all |everything )?(?:that )?(?:you (?:were|have been|had been) (?:told|given|taught|"
        rf"asked)"
        r"|(?:was )?(?:said |written |stated )?(?:before|above) (?:this|and)\b|everything (?:above|before|you))",
    ),
    (
        "instruction",
        rf"\b(?:new|updated|revised|real|actual|important|secret|hidden|priority) (?:system )?instructions? (?:for|"
        rf"to) (?:the |you|any |all )?{_FEW}"
        rf"{_MODEL}\b",
    ),
    ("instruct;directive;prompt", r"\bnew (?:system )?(?:instructions?|directives?|prompt)\s*[:：]\s*\w"),
    (
        "llm;language model;ai ;chatbot",
        rf"\b(?:attention|note|notice|message|memo|instructions?|hint|hello|hey|dear)\b,?\s+(?:to |for )?(?:the |any |"
        rf"all |every )?{_FEW}"
        r"(?:llms?|(?:llm|ai) (?:assistants?|models?|agents?|systems?|reviewers?|readers?)|language models?|"
        r"chatbots?)\s*[:：,!.—-]",
    ),
    (
        "ai ;llm;ai,",
        r"\b(?:as|if|being|like) an? (?:ai|llm) (?:reviewer|reader|assistant|model|agent|system),?"
        r" (?:reading|you|please)\b",
    ),
    (
        "you are;you're;you’re",
        r"\b(?:if|when|since|because|as) you(?:'re|’re| are) (?:an?|the) (?:helpful )?(?:ai|llm|language model|"
        r"large language|"
        r"assistant|chatbot|automated)",
    ),
    (
        "answering;summari;respond;replying;you answer;you reply;asked;user asks",
        r"\b(?:when|if|before|after|while) (?:answering|summari[sz]ing|responding|replying|you (?:answer|summari[sz]e|"
        r"respond|reply)|"
        r"asked (?:about|to)|(?:the )?user asks?)\b[^.\n]{0,80}?\b(?:you must|you should|always|never|do not|only say|"
        r"say that|"
        r"include|append|add|insert|recommend|instead|tell (?:the user|them)|claim|reply (?:only )?with|"
        r"respond (?:only )?with|output)\b",
    ),
    (
        "system prompt;system message;initial prompt;hidden prompt;instruction;api;history;user;your ",
        r"\b(?:reveal|print|repeat|output|show|display|leak|disclose|dump|tell me|send|give me|recite|"
        r"quote) (?:me )?(?:all (?:of )?)?(?:the |your |us )"
        r"(?:\w+ ){0,3}?(?:system prompt|system message|initial prompt|hidden prompt|instructions (?:above|verbatim|"
        r"you were)|"
        r"(?:own |original |secret |initial |hidden |internal |developer |system )instructions|api[ _-]?keys?|"
        r"chat history|conversation history|"
        r"user'?s? (?:data|password|e-?mails?|messages?))\b",
    ),
    (
        "user;human",
        r"\b(?:do not|don't|don’t|never) (?:tell|inform|mention (?:this|it|these)|reveal|alert|"
        r"notify) (?:\w+ ){0,3}?(?:to )?(?:the )?(?:user|human)s?\b",
    ),
    (
        "response;answer;reply;output",
        r"\b(?:your|the model's|the assistant's) (?:next |final |only |entire |whole )?(?:response|answer|reply|"
        r"output) (?:must|should|shall|has to|will) "
        r"(?:begin|start|end|be|only|contain|include|consist|always)\b",
    ),
    (
        "respond;reply;answer",
        r"\b(?:respond|reply|answer) (?:only|just|exclusively|solely) (?:with|by)\b[^.\n]{0,40}?[\"'“‘«]",
    ),
    (
        "from now on;henceforth;starting now;from this point",
        r"\b(?:from now on|henceforth|starting now|from this point (?:on|forward)),? (?:you|your|always|only|respond|"
        r"answer|ignore|act|pretend|"
        r"speak|write|reply)\b",
    ),
    (
        "your",
        r"\b(?:your|this is your) (?:new|real|true|actual|only) (?:task|role|job|goal|objective|purpose|instructions?|"
        r"mission|identity)\b"
        r" ?(?:is|:|will be|are)",
    ),
    (
        "answering;summari;reading",
        r"\b(?:stop|end) (?:answering|summari[sz]ing|reading) (?:here )?and (?:instead|now|start|write|say|do|output|"
        r"tell)\b",
    ),
    (
        "http",
        r"\b(?:append|add|include|insert|embed|render|display|output|put) (?:\w+ ){0,6}?(?:markdown )?(?:image|link|"
        r"url|pixel)\b[^\n]{0,120}?https?://",
    ),
    (
        "conversation;chat;secret;password;api;credential;context;user data;private data;documents you",
        r"\b(?:send|post|forward|exfiltrate|upload|transmit|e-?mail) (?:\w+ ){0,8}?(?:conversation|chat|secrets?|"
        r"passwords?|api keys?|credentials|"
        r"context|user data|private data|documents you)\b[^\n]{0,60}?(?:to |at |@)",
    ),
    # German
    (
        "ignorier;vergiss;vergessen sie;missacht;übergeh;verwirf",
        r"\b(?:ignorier(?:e|en|t)?|vergiss|vergessen sie|missachte(?:n)?|übergeh(?:e|en)|"
        r"verwirf)\b (?:\w+ ){0,5}?(?:vorherig|bisherig|obig|vorig|früher|"
        r"vorangehend|vorangegangen|ursprünglich|deine|ihre|alle)\w* (?:\w+ ){0,3}?(?:anweisung|instruktion|befehl|"
        r"vorgab|regel|prompt|nachricht|anleitung)\w*",
    ),
    (
        "befolg;beacht",
        r"\b(?:befolge|beachte) (?:\w+ ){0,3}?(?:nicht|keine) (?:\w+ ){0,4}?(?:anweisung|instruktion|vorgab)\w*",
    ),
    (
        "befolg;beacht",
        r"\b(?:befolge|beachte) (?:\w+ ){0,3}?(?:vorherig|bisherig|obig|deine)\w*"
        r" (?:anweisung|instruktion|vorgab)\w* nicht\b",
    ),
    (
        "system;deine anweisung",
        r"\b(?:gib|verrate|zeige|nenne|wiederhole) (?:\w+ ){0,4}?(?:system-?prompt|systemanweisung|systemnachricht|"
        r"deine anweisung)\w*",
    ),
    ("du bist;sie sind", r"\b(?:du bist|sie sind) (?:ab )?(?:jetzt|nun|sofort)\b(?: ein| eine| der| die| kein)"),
    # French
    (
        "ignor;oubli;néglig;tiens;tenez;suis;suivez;abstraction",
        r"\b(?:ignore[rz]?|oublie[rz]?|néglige[rz]?|ne (?:tiens|tenez) pas compte d|ne (?:suis|suivez) pas|"
        r"fais abstraction d|faites abstraction d)\w*"
        r" (?:[\w'’]+ ){0,5}?(?:[\w'’]*instructions?|[\w'’]*consignes|[\w'’]*directives|[\w'’]*ordres|[\w'’]*règles|"
        r"[\w'’]*messages)"
        r" (?:[\w'’]+ ){0,2}?(?:précédent|antérieur|ci-dessus|initial|système|du système|données|reçue|plus haut)\w*",
    ),
    (
        "prompt;invite;instructions syst",
        r"\b(?:révèle|affiche|montre|donne|répète)[rz]?(?:-moi)? (?:[\w'’]+ ){0,4}?(?:prompt (?:système|initial)|"
        r"[\w'’]*invite (?:système|du système)|instructions système)",
    ),
    (
        "tu es;vous êtes",
        r"\b(?:tu es|vous êtes) (?:désormais|maintenant|à présent|dorénavant)\b (?:un|une|le|la|en mode)",
    ),
    # Spanish
    (
        "instrucciones;órdenes;indicaciones;reglas;directrices;mensajes",
        r"\b(?:ignora|ignore|ignorar|olvida|olvide|olvídate de|descarta|desobedece|no (?:sigas|obedezcas|"
        r"hagas caso)(?: [ad]e?)?)\b (?:\w+ ){0,5}?"
        r"(?:instrucciones|órdenes|indicaciones|reglas|directrices|mensajes) (?:\w+ ){0,2}?(?:anterior|previa|previo|"
        r"inicial|original|del sistema|de arriba|dada|recibida)\w*",
    ),
    (
        "prompt;instrucciones",
        r"\b(?:revela|muestra|muéstrame|imprime|repite|dime) (?:\w+ ){0,4}?(?:prompt (?:del sistema|inicial)|"
        r"instrucciones (?:del sistema|internas|ocultas))",
    ),
    (
        "ahora",
        r"\b(?:a partir de ahora|desde ahora|ahora),? (?:eres|actúa|actúas|responde|debes)\b (?:un|una|como|solo|"
        r"siempre|el|la)",
    ),
    # Japanese
    (
        "無視;忘れ;破棄;従わ;取り消",
        r"(?:これまで|以前|上記|前|今まで|先|すべて|全て|元|システム)の?[^。\n]{0,12}?(?:指示|命令|プロンプト|ルール|規則|指令)[^。\n]{0,8}?(?:無視|忘れ|破棄|従わ(?:ない|"
        r"ず)|取り消)",
    ),
    (
        "プロンプト;メッセージ;指示",
        r"(?:システム|初期|隠し)(?:プロンプト|メッセージ|指示)を?[^。\n]{0,8}?(?:表示|出力|教え|公開|明か|漏ら)",
    ),
    (
        "今から;これから;君は;あなたは",
        r"(?:あなた|君)は(?:今から|これから|今|もう)[^。\n]{0,20}?(?:です|だ|として|になる|になります|ではありません|振る舞)",
    ),
    # Chinese
    (
        "忽略;无视;無視;忘记;忘記;忘掉;不要;抛弃",
        r"(?:忽略|无视|無視|忘记|忘記|忘掉|不要理会|不要遵守|不要遵循|抛弃)[^。\n]{0,10}?(?:之前|以上|先前|前面|上述|此前|上面|所有|系统|你的|原有)[^。\n]{0,10}?"
        r"(?:指令|指示|提示|命令|规则|規則|要求|说明|内容)",
    ),
    (
        "系统;系統;初始",
        r"(?:显示|输出|透露|泄露|告诉我|打印|重复|顯示|輸出)[^。\n]{0,8}?(?:系统|系統|初始)(?:提示|指令|消息)",
    ),
    ("从现在;從現在", r"(?:从现在(?:开始|起)|從現在(?:開始|起))[,，]?你(?:是|将|必须|要|就|只)"),
    # Italian, Portuguese, Russian
    (
        "istruzioni;instruções;ordens;regole;regras",
        r"\b(?:ignora|ignorate|dimentica|ignore|esqueça|desconsidere)\b (?:\w+ ){0,5}?(?:istruzioni|instruções|ordens|"
        r"regole|regras) (?:\w+ ){0,2}?(?:precedenti|anteriores|iniziali|acima|prévias)",
    ),
    (
        "игнорир;забудь;не следуй",
        r"(?:игнорируй|игнорируйте|забудь|забудьте|не следуй|не следуйте)[^.\n]{0,40}?(?:инструкци|указани|команд|"
        r"правил|промпт)",
    ),
)
_ROLES: Final = (
    (
        "you are now;you're now;you will now be;act as;pretend;play as;behave",
        rf"\b(?:you are now|you're now|you will now be|act as|pretend (?:to be|you are|that you are)|role-?play as|"
        rf"behave (?:as|like))\s+"
        rf"{_FEW}(?:{_MODEL}\b|dan\b|jailbroken|unrestricted|uncensored|unfiltered|evil|root\b|admin\b|"
        rf"developer mode|debug mode|"
        r"terminal|hacker|without (?:any )?(?:restrictions|rules|filters|limits))",
    ),
    (
        "you are now",
        r"\byou are now (?:\"?dan\"?\b|in (?:\w+ )?mode|free (?:from|of)|no longer|a different|an? \w+ (?:ai|bot|"
        r"assistant|model|agent))",
    ),
    (
        "mode",
        r"\b(?:enter|enable|activate|switch (?:in)?to|engage)(?:ing|d)? (?:\w+ ){0,2}?(?:developer|debug|god|"
        r"jailbreak|dan|sudo|unrestricted|admin) mode\b",
    ),
    (
        "bound by;restricted by;limited by;constrained by",
        r"\b(?:you are|you're) (?:not |no longer )(?:bound|restricted|limited|constrained) by\b",
    ),
    (
        "system;developer;assistant",
        r"(?:^|\n)\s*(?:#{1,6}\s*|\*\*|\[|<|=+\s*)?(?:system(?: (?:prompt|message|note|override|instruction))?|"
        r"developer(?: message)?|assistant)"
        r"(?:\*\*|\]|>|\s*=+)?\s*[:：]\s*(?:\*\*)?\s*(?:you\b|ignore|the user|do not|always|never|answer|respond|new|"
        r"override|please|from now|all|sure|i )",
    ),
    (
        "inst];system];assistant];message];developer];sys",
        r"\[(?:system|assistant|/?inst|system message|developer)\]|<<\s*/?sys\s*>>|\[/?inst\]",
    ),
    (
        "|>",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end_header_id|begin_of_text|"
        r"end|endofprompt|channel|message|start)\|>",
    ),
    (
        "</;>",
        r"</?(?:system|assistant|user|human|developer|system[-_]prompt|system[-_]message|instructions?|admin|"
        r"important|context|user_query|"
        r"system-reminder)\s*>\s*\S[^<]{0,400}?\b(?:you|ignore|must|reveal|answer|say|respond|user|do not|always|"
        r"never)\b",
    ),
    (
        "##",
        r"(?:^|\n)\s*#{2,}\s*(?:system|instructions?|new instructions?|assistant|response|"
        r"human)\s*:?\s*#*\s*\n+\s*(?:you\b|ignore|always|never|do not|respond|say)",
    ),
    (
        "human;user;assistant;ai:;ai :",
        r"(?:^|\n)(?:human|user|assistant|ai)\s*:\s[^\n]{1,300}\n+(?:human|assistant|ai|user)\s*:\s",
    ),
    (
        "begin ;start ;end ",
        r"\b(?:begin|start|end) (?:of )?(?:system|hidden|admin|developer) (?:prompt|message|instructions?|override)\b",
    ),
    ("system ;override", r"\bsystem (?:override|prompt override)\b|\b(?:admin|developer) override\s*[:：]"),
    (
        "end of",
        r"\b(?:end of (?:the )?(?:document|passages?|context|data|retrieved (?:text|"
        r"documents?)))\b[^\w\n]{0,10}\s*(?:now|you|new|the user|instructions?|answer|ignore)",
    ),
)
_TOOLS: Final = (
    (
        "tool;function;recipient_name",
        r"[\"'](?:tool_calls?|function_call|tool_use|tool_name|recipient_name)[\"']\s*:\s*[\[{\"']",
    ),
    (
        "arguments;parameters;input;args",
        r"[\"'](?:name|tool|function|action)[\"']\s*:\s*[\"'][\w.:-]+[\"']\s*,\s*[\"'](?:arguments|parameters|input|"
        r"args|action_input)[\"']\s*:\s*[\"'{]",
    ),
    ("role", r"[\"']role[\"']\s*:\s*[\"'](?:system|assistant|developer|tool|user)[\"']\s*,\s*[\"']content[\"']\s*:"),
    (
        "<tool;<func;<invoke;<antml",
        r"<(?:tool_call|function_calls?|invoke|tool_use|tool_result|function_results|function=\w+|"
        r"antml:\w+)\b[^>]{0,80}>",
    ),
    (
        "tool;function;plugin",
        r"\b(?:call|invoke|use|run|execute|trigger) (?:the |your )?[`\"']?\w{2,40}[`\"']? (?:tool|function|"
        r"plugin)\b[^.\n]{0,60}?\b(?:with|to|and|on)\b",
    ),
    ("action", r"(?:^|\n)\s*(?:action|thought)\s*:\s*\S[^\n]{0,200}\n\s*(?:action input|action|observation)\s*:"),
)
_FENCES: Final = (
    ("passage", r"<\s*/?\s*passage(?:[-_ ]?[\da-z]{0,16})?\s*/?>"),
    (
        "</;< /",
        r"<\s*/\s*(?:document|documents|context|data|retrieved|source|sources|search_results?|untrusted|"
        r"passages)\s*>\s*\S",
    ),
)
RULES: Final = tuple(
    Rule(kind=kind, gate=tuple(gate.split(";")), pattern=re.compile(pattern))
    for kind, rules in (
        ("instructions", _INSTRUCTIONS),
        ("role", _ROLES),
        ("tool call", _TOOLS),
        ("fence", _FENCES),
    )
    for gate, pattern in rules
)
