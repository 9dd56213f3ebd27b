"""The words by which a question refers to what was said, in the languages that were looked at.

In: nothing. Out: word lists and patterns by language, data only. Knows nothing of how they are used; a
language is added here and nowhere else.
"""

from __future__ import annotations

import regex

PERSONS = {
    "en": "he him his she her hers they them their theirs",
    "de": "er ihn ihm sein seine seiner seinen sie ihr ihre ihrer ihren ihnen dessen deren",
    "fr": "il elle ils elles lui leur leurs son sa ses",
    "es": "él ella ellos ellas lo la le les su sus",
    "it": "lui lei loro gli suo sua suoi sue",
    "pt": "ele ela eles elas dele dela deles delas lhe seu sua seus suas",
    "nl": "hij hem zij haar",
    "ru": "он она они его её ее их ему ей им него неё нее них ним ней ними",
    "zh": "她 她们 他们 他",
    "ja": "彼",
}
"""Pronouns of persons, for one."""

THINGS = {
    "en": "it its there then these those this ones",
    "de": "es dort da damals das dies diese dieser dieses",
    "fr": "y en ça cela ceci celui celle ceux celles alors",
    "es": "allí ahí entonces eso esto ese esa esos esas",
    "it": "lì là allora ciò questo questa quello quella",
    "pt": "lá então isso isto aquilo esse essa",
    "nl": "daar toen dat dit die deze",
    "ru": "там тогда это этот эта эти этого этой тот та те",
    "zh": "它 那里 那儿 那边 那时 那个 这个 其",
    "ja": "それ そこ その",
}
"""Pronouns of things, places, times and of what was said."""

_WEATHER = "rain|snow|cold|warm|hot|late|early|dark|sunny|windy|possible"
NOT_LEFT_OUT = {
    "en": r"\bthere\s+(?:is|are|was|were|be|been|will|any\w*)\b|\b(?:is|are|was|were|will)\s+there\b"
    rf"|\bthere's\b|\bit(?:'s|\s+is|\s+was|\s+will\s+be)?\s+(?:{_WEATHER}|true|time)\w*"
    rf"|\b(?:is|was|will|does|did)\s+it\s+(?:going\s+to\s+(?:be\s+)?|\w+\s+)?(?:{_WEATHER}|take\s+to)\w*"
    r"|\bwhat\s+(?:time|day|date|year)\s+is\s+it\b|\bhow\s+is\s+it\s+going\b|\bnow\s+and\s+then\b"
    r"|\b(?:this|these)\s+(?:time|year|month|week|weekend|morning|afternoon|evening|night|spring|summer|autumn"
    r"|fall|winter|days?|weeks|months)\b",
    "de": r"\bgibt\s+es\b|\bes\s+(?:gibt|regnet|schneit)\b|\b(?:regnet|schneit|geht)\s+es\b"
    r"|\bes\s+(?:ist|wird)\s+(?:kalt|warm|spät|früh|dunkel)\b|\bwie\s+spät\s+ist\s+es\b"
    r"|\b(?:ist|wird)\s+es\s+(?:\w+\s+)?(?:kalt|warm|heiß|spät|früh|dunkel|möglich|regnen)\b"
    r"|\bdies\w*\s+(?:jahr|monat|woche|wochenende|morgen|abend|mal|tage)\b|\bdas\s+(?=\p{L})"
    r"|\b(?:können|könnten|würden|haben|empfehlen|wissen)\s+sie\b",
    "fr": r"\bil\s+y\s+a\b|\by\s+a-t-il\b|\bil\s+(?:fait|faut|pleut|neige)\b"
    r"|\b(?:est|fait|faut|pleut)-il\b|\ben\s+(?=\p{L})",
    "es": r"\b(?:lo|la)\s+(?=\p{L})|\best[ea]s?\s+(?:año|mes|semana|noche|tarde|mañana|fin)\b",
    "it": r"\bquest[oai']\s*(?:anno|mese|settimana|sera|mattina|weekend|fine)\b|\bgli\s+(?=\p{L})",
    "pt": r"\b(?:neste|nesta|este|esta)\s+\w+",
    "nl": r"\bdit\s+(?:jaar|weekend)\b|\bdeze\s+(?:week|maand|avond)\b|\b(?:dat|die)\s+(?=(?:ik|je|u|we)\b)",
    "ru": r"\b(?:на\s+)?эт\w+\s+(?:год|месяц|недел|вечер|утр|выходн)\w*|\bэто\s+(?=\p{L})",
    "zh": r"吉他|其他人?|他人|其实|其中|其它|其余|尤其|极其|与其|[这那]个?(?:周末|星期|礼拜|月|年|季|学期)",
    "ja": r"それでは|それぞれ|その他|彼岸",
}
"""What has the form of a pronoun and stands for nothing that was said."""

THAT = regex.compile(
    r"\b(?:is|was|does|did|do|about|like|of|for|to|from|with|on|in|at|after|before|know|and|why)\s+that"
    r"(?=\s*(?:[?!.,]|$)|\s+(?:one|mean|work|happen|help|cost|called|true|so|possible|again)\b)"
    r"|\b(?:is|was)\s+that\s+\p{L}+\s*\?|\b(?:which|what)\s+ones?\b|\bthe\s+(?:same|former|latter)\b|\bsomebody\s+else\b",
    regex.IGNORECASE,
)
"""English "that" and the like where they stand for what was said."""

LINKS = {
    "en": "and but or so",
    "de": "und oder aber",
    "fr": "et ou mais",
    "es": "y o pero e",
    "it": "e o ma",
    "pt": "e ou mas",
    "nl": "en of maar",
    "ru": "а и но или",
}
ASKS = {
    "en": "how when where who what which why whose whom since until",
    "de": "wie wann wo wer was welche welcher welches warum seit wohin woher",
    "fr": "comment quand où qui que quoi quel quelle pourquoi depuis combien",
    "es": "cómo cuándo dónde quién qué cuál por desde cuánto",
    "it": "come quando dove chi che cosa quale perché da quanto",
    "pt": "como quando onde quem que qual por desde quanto",
    "nl": "hoe wanneer waar wie wat welke waarom sinds",
    "ru": "как когда где кто что какой почему зачем сколько куда откуда",
}
SELF = {
    "en": "i i'm i'd me my mine we us our you your",
    "de": "ich mich mir mein meine wir uns du dich dir",
    "fr": "je me moi mon ma mes nous vous tu",
    "es": "yo me mi mis nosotros tú te usted",
    "it": "io mi mio mia noi tu ti",
    "pt": "eu me meu minha nós você",
    "nl": "ik me mij mijn wij we je u",
    "ru": "я мне меня мой моя мы нас вы ты",
}
"""Who speaks or is spoken to: a question about them leaves nothing out by being short."""

SHORT_QUESTION = 3
"""Words of a question that are too few to say what it is about: "How old?", "Since when?"."""

SOMEBODY = regex.compile(
    r"\b(?:my|our|a|an|the|some|that|this)\s+(?:\p{L}+\s+)?(?:friend|brother|sister|mother|father|mum|mom|dad|cousin"
    r"|colleague|neighbou?r|boss|uncle|aunt|wife|husband|son|daughter|man|woman|girl|boy|doctor|teacher|nurse|child"
    r"|partner|manager|grandmother|grandfather|nephew|niece)s?\b|\b(?:somebody|someone)\b",
    regex.IGNORECASE,
)
"""How a turn speaks of a person without a name."""

ASKS_UNSPACED = regex.compile(
    r"什么|什麼|怎|哪|谁|誰|几|幾|多[少大久远高长]|为何|吗|嗎|呢|[？?か]$|何|どう|いつ|だれ"
)
OF_ITSELF = regex.compile(r"我|你|您|今天|现在|明天|昨天|今晚|私|今日|明日|今は")
"""What says whom or when a short question is about: who speaks, and today."""
