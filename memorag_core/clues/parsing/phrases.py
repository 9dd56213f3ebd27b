"""The words by which models talk about clues instead of giving them, in the languages that were looked at.

In: nothing. Out: word sets and patterns, data only. Knows nothing of how they are used; a language is added
here and nowhere else.
"""

from __future__ import annotations

from functools import cache

import regex

from memorag_core.documents.words import folded


@cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern without regard to case, compiled at its first use: all of them take a tenth of a second."""
    return regex.compile(pattern, regex.I)


def any_of(words: str) -> str:
    """A pattern for any of the words, which "_" joins where they hold spaces; the longest first."""
    found = (word.replace("_", " ") for word in words.split())
    return "|".join(map(regex.escape, sorted(found, key=len, reverse=True)))


HAN_NUMBER = "[一二三四五六七八九十]{1,3}"

# --- labels: "Answer:", "线索1：" ---------------------------------------------------------------------------

ASKING = any_of(
    "question questions query queries sub-question sub-questions subquestion pregunta preguntas frage fragen "
    "request solicitud 要求 domanda domande pergunta perguntas вопрос вопросы 问题 子问题 "
    "问 問題 質問 질문 سؤال السؤال أسئلة "
)
SAYING = any_of(
    "answer answers response clue clues hint hints span spans passage passages excerpt excerpts quote quotes "
    "quotation text sentence sentences evidence summary output result "
    "assistant point points snippet snippets "
    "respuesta respuestas pista pistas fragmento fragmentos cita citas pasaje pasajes resumen punto puntos "
    "réponse indice extrait extraits citation résumé passage "
    "antwort hinweis zitat zitate auszug textstelle textstellen zusammenfassung risposta resposta "
    "ответ цитата цитаты отрывок отрывки фрагмент фрагменты подсказка "
    "答案 回答 答 線索 线索 原文 片段 原文片段 段落 摘录 引用 引文 句子 要点 关键点 总结 摘要 输出 结果 "
    "答え 手がかり 手掛かり 抜粋 抜粋文 要約 ポイント 문장 구절 발췌 요약 답변 답 단서 "
    "الإجابة إجابة مقطع مقاطع اقتباس"
)
MANNER = any_of(
    "draft final short possible relevant related surrogate text supporting key follow-up exact direct sub "
    "precise specific important main original sugerida relevante relevantes clave final 相关 主要 关键 最终 "
    "関連する 重要な 主な 관련 핵심"
)
STEPS = any_of(
    "step steps finding findings fact facts paso pasos hallazgo hallazgos étape schritt passo шаг "
    "步骤 步 事实 发现 推理 ステップ 手順 事実 단계 사실 خطوة"
)
NAME_TYPES = any_of(
    "name names entity entities person persons people character characters place places location locations "
    "date dates time term terms thing things object objects event events organization organizations "
    "organisation company companies concept concepts work works title titles key_terms key_people "
    "named_entities other others "
    "nombre nombres entidad entidades persona personas personaje personajes lugar lugares fecha fechas "
    "término términos cosa cosas objeto objetos evento eventos "
    "organización organizaciones concepto conceptos "
    "noms personnes lieux personen orte namen daten имя имена люди персонажи места места_действия даты "
    "термины события 实体 名称 人物 人名 地点 地名 时间 日期 年代 术语 "
    "事物 物品 事件 组织 机构 作品 概念 其他 "
    "固有名詞 名前 場所 日付 用語 出来事 組織 物 登場人物 その他 인물 장소 날짜 용어 사건 이름 단체 "
    "الأشخاص الأماكن التواريخ المصطلحات الأسماء"
)
"""What kind of name a name is: a label of names, and alone no name."""

ASIDES = any_of(
    "explanation reason reasoning relevance why rationale justification translation comment note notes "
    "explicación razón motivo relevancia justificación traducción nota comentario erklärung begründung "
    "explication пояснение объяснение примечание перевод 解释 说明 理由 原因 分析 "
    "备注 注 译文 翻译 相关性 出处 "
    "説明 補足 備考 出典 関連性 訳 설명 이유 참고 번역 ملاحظة شرح"
)
"""Labels of what is said about a clue."""

# --- whole lines --------------------------------------------------------------------------------------------

FUNCTION_WORDS = frozenset(
    folded(text)
    for text in """
    a about also am an and any are as at be been being but by can could did do does doing done for from had
    has have he her hers him his how i if in into is it its me my no not of on or our she should so such than
    that the their them then there these they this those to us was we were what when where which who whom
    whose why will with would yes you your
    de el la los las un una y o en que es se del al lo por con su qué quién cómo cuál dónde cuándo fue era
    le les des du et est ce il elle dans pour qui sur der die das und ist ein eine zu den dem wer wie wo
    и в на не что это он она кто как где من ما في على هو هي هل أين متى
    """.split()
)
FUNCTION_SIGNS = regex.compile(
    "什么|怎么|为什么|哪里|哪儿|这个|那个|谁|何|哪|的|了|是|吗|呢|吧|着|们|他|她|它|我|你|您|这|那|之"
    "|でしょうか|ですか|ますか|でした|です|ます|それ|これ|あれ|どれ|どこ|いつ|だれ|誰|なぜ"
    "|[はがをにでとのもへやか]"
)

NOTHING = frozenset(
    folded(text)
    for text in """
    none|n a|na|null|nil|unknown|nothing|no answer|not applicable|no idea|not sure|unclear|unanswerable|
    no clue|no clues|i don t know|i do not know|don t know|i m not sure|i am not sure|i can t recall|
    i cannot recall|i don t recall|i don t remember|i do not remember|not mentioned|not specified|not stated|
    not found|no information|no relevant information|no relevant passages|cannot be determined|
    nothing relevant|end|end of text|end of list|
    no sé|no lo sé|ninguno|ninguna|nada|no se menciona|desconocido|sin información|no especificado|
    no recuerdo|no lo recuerdo|no hay|no disponible|no aplica|fin|
    je ne sais pas|aucun|aucune|inconnu|non lo so|nessuno|não sei|nenhum|desconhecido|
    keine|keiner|unbekannt|ich weiss nicht|ich weiss es nicht|nicht bekannt|keine angabe|
    нет|не знаю|неизвестно|нет информации|не указано|모름|없음|모르겠습니다|알수없음|정보없음|해당없음|
    لا شيء|لا أعرف|غير معروف|لا يوجد|
    无|没有|不知道|我不知道|未知|不详|不清楚|未提及|没有提到|没有提及|文中未提及|文中没有提到|
    无法确定|无法回答|无相关信息|没有相关信息|暂无|空|無|不知|未提到|沒有|完|以上|
    なし|無し|ない|不明|わかりません|分かりません|わからない|知りません|該当なし|情報なし|特になし|記載なし|
    以上です|覚えていません
    """.replace("\n    ", "")
    .strip()
    .split("|")
)
"""Whole lines that say there is nothing to say, as ``comparable`` gives them, unspaced scripts joined."""

GENERIC_NAMES = frozenset(
    folded(text)
    for text in """
    author|writer|narrator|speaker|reader|user|protagonist|main character|main characters|hero|question|
    answer|text|document|passage|story|book|article|chapter|context|information|memory|topic|subject|
    person|people|man|woman|someone|somebody|something|place|location|date|time|year|thing|things|event|
    events|name|names|entity|entities|character|characters|term|terms|city|country|others|other|various|
    organization|concept|misc|object|number|role|fictional character|historical figure|
    autor|autora|narrador|protagonista|lector|texto|historia|libro|pregunta|respuesta|persona|personas|
    personaje|personajes|lugar|fecha|cosa|evento|nombre|alguien|algo|otros|ciudad|país|
    作者|叙述者|讲述者|读者|主人公|主角|文本|文章|原文|故事|问题|答案|人物|地点|时间|日期|事物|事件|名称|实体|
    有人|某人|其他|城市|国家|组织|概念|主要人物|主要角色|
    著者|筆者|語り手|読者|本文|テキスト|物語|質問|答え|場所|日付|名前|出来事|登場人物|ある人|その他|人|
    저자|작가|화자|주인공|본문|질문|인물|장소|날짜|사건|
    автор|рассказчик|главный герой|текст|вопрос|человек|место|дата|событие|кто то|
    المؤلف|الراوي|النص|السؤال|شخص|مكان|تاريخ
    """.replace("\n    ", "")
    .strip()
    .split("|")
)
"""Names that every text has, so that they lead nowhere; without their article."""

ARTICLE = regex.compile(r"^(?:the|an?|el|la|los|las|un|una|le|der|die|das|o|a|il) ")

_SOURCE = r"(?:text|passage|article|context|document|story|book|chapter|excerpt|memory|source|conversation)s?"
_TELL = (
    "(?:mention|provide|specify|contain|say|state|give|include|discuss|indicate|name|explain|answer"
    "|tell|describe|address|offer|clarify)s?"
)
_TOLD = r"(?:mentioned|stated|specified|given|provided|found|discussed|described|included|named|answered)"
_KNOW = "(?:find|recall|remember|provide|answer|determine|have|see|assist|help)"
REFUSAL = "|".join(
    (
        # "The passage does not say who he was", but not "The captain did not say", as in a novel.
        rf"(?:(?:based on|according to) [^,]*, )?(?:the|this) (?:\w+ )?{_SOURCE} (?:itself |only )?"
        rf"(?:{_TELL} no|(?:(?:does|did|do|could|can) ?(?:not|n['’]t)|never) (?:\w+ )?{_TELL})\b",
        rf".*\b(?:not|never|n['’]t) (?:\w+ ){{0,2}}{_TOLD} (?:\w+ ){{0,2}}"
        rf"(?:in|by) (?:the|this|my) (?:\w+ )?{_SOURCE}\b",
        r"(?:i['’]m (?:sorry|afraid),? )?(?:but )?i (?:do not|don['’]t|can['’]?t|cannot"
        r"|could not|couldn['’]t"
        rf"|(?:am|was) (?:unable|not able) to) {_KNOW}\b.*\b(?:information|details?|question|access"
        rf"|memory of|{_SOURCE})\b",
        r"(?:(?:i['’]m |i am )?sorry|unfortunately|i apologi[sz]e)\b.*\b(?:not|no|unable|cannot|n['’]t)\b"
        rf".*\b(?:information|details?|questions?|answers?|assist|help|{_SOURCE})\b",
        r"there (?:is|was|are|were) no (?:\w+ )?(?:mention|information|indication|details?"
        r"|passages?|answer)\b",
        r"no (?:relevant |specific |direct |further )?(?:information|mention|passages?|spans?"
        r"|details) \w+",
        r"(?:sorry, )?(?:but )?as an? (?:ai|artificial intelligence|(?:large )?language model)\b",
        r"i(?:['’]m| am) (?:just )?an? (?:ai|(?:large )?language model)\b",
        rf"(?:you (?:have not|haven['’]t) provided|please provide)\b.*\b{_SOURCE}\b",
        r"(?:根据|基于)?(?:我的记忆|文章|文中|文本|原文|上文|本文|文档|材料|提供的\w{0,4}?|给定的\w{0,4}?)\w{0,8}?[，,]?"
        r"(?:里|中|并)?(?:没有|并未|并没有|未|无法|不能)\w{0,6}?"
        r"(?:提到|提及|说明|提供|给出|找到|回答|确定|得知|记载|相关|描述|明确)",
        r"(?:抱歉|对不起|很遗憾|很抱歉|非常抱歉).*"
        r"(?:无法|没有|不).*(?:信息|文本|文章|原文|文中|答案|内容|问题|知道|回答|提到|记得|帮助|帮)",
        r"我?(?:无法|不能)(?:从\w{0,6}中)?(?:回答|确定|找到|得知|回忆).*(?:问题|文本|信息|内容|答案|原文|文中|段落)",
        r"我(?:不记得|记不清|没有关于).*(?:文本|原文|文中|内容|信息|细节|文章|段落)",
        r"作为(?:一个|一名|一款)?(?:ai|人工智能|大?语言模型)",
        r"(?:本文|文中|テキスト|文章|記事|この文章|原文|物語).*"
        r"(?:記載|言及|述べ|書かれ|情報|触れ|見つか|含まれ).*(?:ません|ない)",
        r"(?:申し訳|すみません|残念ながら).*"
        r"(?:情報|本文|文中|文章|テキスト|記憶|質問|答え|わかりません|分かりません|できません)",
        r"(?:その|この|該当する)(?:情報|質問|箇所).*(?:ありません|できません|ない)",
        r"(?:私は)?aiとして|(?:私は)?(?:大規模)?言語モデル",
        r"(?:en )?(?:el|este) (?:texto|pasaje|artículo|documento|relato) no (?:se )?"
        r"(?:menciona|dice|proporciona|indica|especifica|contiene|aclara|da|ofrece|explica)",
        r"(?:en el (?:texto|pasaje) )?no se (?:menciona|especifica|indica|dice|proporciona)\w*\b.*"
        r"\b(?:texto|pasaje|información|documento|artículo)",
        r"no (?:tengo|encuentro|hay|puedo (?:encontrar|recordar|responder)|recuerdo)\b.*"
        r"\b(?:información|texto|pasaje|detalles?|pregunta|fragmentos?)",
        r"(?:lo siento|lamentablemente|desafortunadamente|disculpa).*\bno\b.*"
        r"(?:información|texto|pasaje|detalle|pregunta|respuesta|recuerdo|puedo|menciona)",
        r"como (?:modelo de lenguaje|(?:una )?(?:ia|inteligencia artificial))",
        r"o (?:texto|documento) não (?:menciona|diz|informa|especifica|contém)|não há informaç",
        r"il (?:testo|documento) non (?:menziona|dice|specifica|contiene|fornisce)",
        r"(?:le (?:texte|passage|document) ne|désolé.*\bne) "
        r"(?:mentionne|précise|dit|fournit|donne|contient|peux)",
        r"(?:der|im) text\b.*\b(?:nicht|keine)\b.*(?:erwähnt|angegeben|angaben|informationen|genannt)",
        r"(?:в (?:тексте|отрывке|документе)|текст|отрывок) .*(?:не (?:упомина|указан|сказан"
        r"|говорит|содерж)|нет )",
        r"(?:к сожалению|извините|я)\b.*\b(?:не|нет)\b.*(?:информац|текст|отрывк|ответ|вопрос"
        r"|помочь|детал)"
        r"|как языковая модель",
        r"(?:본문|텍스트|지문|기사|글|제공된 \w+)(?:에는|에서는|에|은|는) .*(?:없습니다"
        r"|않습니다|않았습니다|않음)",
        r"(?:죄송합니다|죄송하지만|안타깝게도).*(?:정보|본문|질문|답변|기억|내용).*(?:없습니다|않습니다|못합니다)",
        r"(?:لم|لا) (?:يذكر|يرد|يتم ذكر|يحتوي|يوضح) .*(?:النص|المقطع|معلومات)"
        r"|(?:عذرًا|عذرا|آسف|للأسف)[،, ].*(?:النص|معلومات|السؤال|الإجابة)",
    )
)
"""The beginning of a line that says the text has no answer, or the model will not give one."""

_HELP = "(?:help|information|details|passages|questions|assistance|context|clarification|quotes)"
CHATTER = "|".join(
    (
        r"[¡\s]*(?:sure|certainly|of course|okay|ok|absolutely|understood|got it|great question"
        r"|claro(?: que sí)?|por supuesto|desde luego|entendido|bien sûr|natürlich|конечно|понял"
        r"|好的|好|当然(?:可以)?|没问题|明白了|はい|もちろん(?:です)?|承知しました|了解しました|かしこまりました"
        r"|네|물론입니다|물론이죠|알겠습니다|بالطبع|حسنًا)[ .,!。，！、]*$",
        r"(?:i )?hope (?:this|that|these|it) (?:\w+ )?helps?|(?:please )?let me know if|feel free to",
        r"(?:please )?note(?: that|:) .*\b(?:passages?|quotes?|excerpts?|my memory|wording"
        r"|recall\w*|verbatim)\b",
        rf"if you (?:need|have|want|would like) .*\b{_HELP}\b|is there anything else"
        rf"|would you like (?:me|more)",
        r"(?:these|the above) (?:\w+ )?(?:passages|quotes|spans|excerpts|questions|sentences"
        r"|clues|points|steps"
        r"|lines) (?:\w+ )?(?:are|should|will|would|can|could|may|all|show|explain|help|highlight|suggest"
        r"|indicate|describe|provide|illustrate|directly|together|capture|cover|lead|give|support)\b",
        r"this (?:passage|quote|span|excerpt) (?:\w+ly )?(?:shows|explains|helps|highlights"
        r"|suggests|indicates"
        r"|describes|provides|illustrates|answers|mentions|reveals|supports)\b",
        r"[(（\[]\s*(?:please )?(?:note|explanation|nota|注|注意|备注|说明|補足|補注|참고"
        r"|примечание)[:： ]",
        r"[(（\[](?:end|continued|to be continued|more|rest of|no more|完|终|未完|以上|続く|fin"
        r"|continúa)\b"
        r"[^()（）]*[)）\]]$",
        r"希望(?:这|这些|以上\w{0,8}|我的回答)?(?:能|能够|可以)?(?:对[您你])?(?:有)?(?:所)?帮助",
        r"如(?:果)?(?:您|你)?(?:还)?(?:有|需要?)(?:任何|其他|更多|进一步)\w*(?:帮助|信息|片段|细节|问题|补充|请)",
        r"请(?:随时)?告诉我|请注意[，,：:].*(?:原文|文本|片段|段落|记忆|问题|回忆|措辞)",
        r"(?:这|该)(?:些|几)?(?:个|一|段|句)?(?:片段|段落|原文|引文|话|段话|句话)"
        r"(?:表明|说明|显示|描述|有助于|体现|反映|揭示|直接)",
        r"(?:这些|上述|以上)(?:段落|片段|原文|句子|问题|要点|内容|引文|线索|步骤)"
        r"\w{0,3}?(?:表明|说明|可以|能|有助于|直接|均|都|是|为|共同|足以|来自|出自)|以上(?:就|便)?(?:是|为)",
        r"(?:これらの|上記の|以上の)(?:抜粋|文|質問|箇所|引用|ポイント|一節|部分)(?:は|が|から|を|に)"
        r"|この(?:抜粋|一節|引用)(?:は|から)|以上(?:が|です|となります)"
        r"|(?:ご参考|お役に立て|ご不明|何かご質問|他に(?:も)?(?:ご)?質問|参考になれば)",
        r"espero que (?:esto|esta|estos|estas|te|le|sea)|¿(?:hay algo más|necesitas (?:algo|más"
        r"|ayuda))|no dudes en",
        r"si (?:necesitas?|tienes?|quieres?|deseas?) .*\b(?:ayuda|información|detalles"
        r"|preguntas|fragmentos|más)\b",
        r"ten en cuenta que .*\b(?:fragmentos?|pasajes?|citas?|memoria|literal\w*)\b",
        r"est[eao]s? (?:fragmento|pasaje|cita)s? (?:\w+ )?"
        r"(?:muestra|explica|indica|describe|ayuda|sugiere|son|refleja|permite|responde)\w*",
        r"j['’]espère que|n['’]hésitez pas|ich hoffe,? (?:das|dies)|надеюсь, (?:это|что эт)"
        r"|если (?:вам|у вас|тебе) .*(?:вопрос|помощь|нужн)|эт(?:от|и|а) (?:отрыв|фрагмент|цитат)",
        r"(?:이것이 |답변이 )?도움이 되(?:셨|었|길|기를|시)|더 (?:궁금한|필요한) |آمل أن"
        r"|أتمنى أن|إذا كنت بحاجة",
    )
)
"""The beginning of a line that is said to the one who asked."""

OPENING = (
    r"(?:here (?:are|is|’s|'s)|here['’]s|below (?:are|is)|the following (?:are|is)|based on"
    r"|from (?:my )?memory|let me"
    r"|i(?:['’]ll| will| can)? (?:recall|remember|list|provide"
    r"|give)|to answer (?:this|the|your)|to find|we need to"
    r"|以下是|以下为|下面是|下列|根据|我(?:将|会)|为了回答|要回答|以下の|以下に|次の|質問に答えるため"
    r"|aquí (?:están|tienes|está|te)|estos son|estas son|a continuación|para responder|basándome|según mi"
    r"|voici|hier sind|вот|ниже|다음은|아래는|إليك|فيما يلي)"
)
"""How a line begins that announces clues without a colon at its end."""

ABOUT_CLUES = (
    r"\b(?:here (?:is|are)|following|as follows|below|listed|spans?|passages?|excerpts?|quotes?|clues?"
    r"|questions?|key points?|answers?|sentences|entities|names|steps|findings|memory|relevant"
    r"|a continuación|siguientes?|fragmentos|pasajes|preguntas?|pistas|puntos clave|pasos|entidades|nombres"
    r"|voici|suivante?s?|folgende\w*|textstellen|следующ\w*|отрывк\w*|фрагмент\w*|вопрос\w*|цитат\w*)\b"
    r"|以下|如下|下列|片段|原文|线索|要点|问题|答案|实体|名称|步骤|记忆|文本|段落|次の|抜粋|手がかり|質問|回答|箇所|固有名詞|ステップ"
    r"|다음|구절|질문|단서|التالية|مقاطع|أسئلة|الأسئلة|المقاطع"
)
"""What an announcement is about."""

INSTRUCTION = (
    r"(?:write|list|give|put|output|provide|return) (?:only )?(?:one|each|every|a single|exactly one) \w+"
    r" (?:on|per|in) (?:(?:each|a|its own|every|one|separate) )?line"
    r"|one \w+ per line\b|(?:no numbers?|no comments?|no explanations?), no \w+"
    r"|(?:do not|don['’]t) (?:number|translate|explain|add|include|write anything)\b.{0,60}$"
    r"|(?:请)?(?:每行|一行)只?(?:写|列|输出)?一(?:个|处|条|句)|不要(?:编号|解释|写其他|输出其他|翻译)"
    r"|1行に1つ|一行に一つ(?:ずつ)?|番号(?:は|を)(?:付け|つけ)ない"
    r"|(?:escribe|anota|pon) (?:un[oa]?|cada) \w+ (?:por|en cada) línea|una? \w+ por línea"
)
"""How requests of this sort are worded, for replies whose own request is not known."""
