"""The report's words and numbers in English and Chinese: names of tasks, arms and metrics, sentences, units.

English sentences are their own keys; ``CHINESE`` translates them. A name that is not listed (a new task, a new metric)
is shown as it is, with spaces for underscores, so that nothing has to be added here for a new part to appear.
"""

import math
from typing import Any

TASKS = {
    "classification": ("Classification", "Which of a few labels does a passage deserve?"),
    "retrieval": ("Retrieval", "Given a one-line query, find the one document that it belongs to."),
    "summarization": ("Summarization", "Read a passage, write its summary line."),
    "generation": ("Generation", "Go on writing from a prompt. A higher temperature takes more risks."),
    "cloze": ("Cloze", "Fill in the word that was taken out of a sentence."),
    "translation": ("Translation", "Say the same in another language."),
    "question_answering": ("Question answering", "Find the answer to a question in a passage."),
}

ARMS = {
    "bert": "BERT",
    "gpt": "GPT",
    "bert_not_pretrained": "BERT, not pretrained",
    "gpt_not_pretrained": "GPT, not pretrained",
    "bert_with_bm25": "BERT fused with BM25",
    "bm25": "BM25",
    "tfidf_logistic_regression": "TF-IDF + logistic regression",
    "majority": "the commonest label",
    "lead": "the first sentence",
    "xz": "xz -9e",
    "unigram": "word frequencies alone",
    "chance": "chance",
    "bpe": "byte-level BPE, for GPT",
    "wordpiece": "WordPiece, for BERT",
}

METRICS = {
    "bits_per_byte": ("Bits per byte", "how many bits the model needs for each byte of unseen text; fewer is better"),
    "perplexity": ("Perplexity", "between how many equally likely tokens the model wavers; fewer is better"),
    "masked_accuracy": ("Masked accuracy", "share of hidden tokens guessed exactly"),
    "next_sentence_accuracy": ("Next-sentence accuracy", "does the second passage really follow the first?"),
    "loss": ("Loss", "the mean surprise at a token, in nats; fewer is better"),
    "accuracy": ("Accuracy", "share of answers that are right"),
    "macro_f1": ("Macro F1", "precision and recall in one number, every label counting the same"),
    "mrr": ("MRR", "one over the rank of the right document, on average"),
    "ndcg@10": ("nDCG@10", "how high among the first ten the right document stands"),
    "recall@10": ("Recall@10", "share of queries whose document is among the first ten"),
    "rouge_1": ("ROUGE-1", "words shared with the reference"),
    "rouge_2": ("ROUGE-2", "pairs of words shared with the reference"),
    "rouge_l": ("ROUGE-L", "longest run of words, in order, shared with the reference"),
    "distinct_2": ("Distinct-2", "share of pairs of words that are no repetition"),
}

STAGES = {
    "corpus": "Reading the corpus",
    "tokenizer_gpt": "Training GPT's tokenizer",
    "tokenizer_bert": "Training BERT's tokenizer",
    "plan": "Measuring the machine",
    "pretraining": "Pretraining",
    "pretrain_gpt": "Pretraining GPT",
    "pretrain_bert": "Pretraining BERT",
    "extractive": "Choosing sentences",
}

FIELDS = {
    "text": "Text",
    "reference": "Reference",
    "passage": "Passage",
    "query": "Query",
    "best": "Found first",
    "rank": "Rank of the right document",
}

CHINESE = {
    # names
    "Classification": "分类",
    "Retrieval": "检索",
    "Summarization": "摘要",
    "Generation": "生成",
    "Cloze": "完形填空",
    "Translation": "翻译",
    "Question answering": "问答",
    "BERT, not pretrained": "BERT（未预训练）",
    "GPT, not pretrained": "GPT（未预训练）",
    "BERT fused with BM25": "BERT 与 BM25 融合",
    "TF-IDF + logistic regression": "TF-IDF + 逻辑回归",
    "the commonest label": "总猜最常见的标签",
    "the first sentence": "取首句",
    "word frequencies alone": "只看词频",
    "chance": "随机猜测",
    "byte-level BPE, for GPT": "字节级 BPE（GPT 用）",
    "WordPiece, for BERT": "WordPiece（BERT 用）",
    "Bits per byte": "每字节比特数",
    "Perplexity": "困惑度",
    "Masked accuracy": "掩码准确率",
    "Next-sentence accuracy": "下一句判断准确率",
    "Loss": "损失",
    "Training loss": "训练损失",
    "Accuracy": "准确率",
    "Macro F1": "宏平均 F1",
    "Recall@10": "召回率@10",
    "Reading the corpus": "读取语料",
    "Training GPT's tokenizer": "训练 GPT 的分词器",
    "Training BERT's tokenizer": "训练 BERT 的分词器",
    "Measuring the machine": "测量机器速度",
    "Pretraining": "预训练",
    "Pretraining GPT": "预训练 GPT",
    "Pretraining BERT": "预训练 BERT",
    "Choosing sentences": "选取句子",
    "Text": "文本",
    "Reference": "参考答案",
    "Passage": "原文",
    "Query": "查询",
    "Found first": "排在首位的结果",
    "Rank of the right document": "正确文档的名次",
    "train": "训练",
    "validation": "验证",
    "test": "测试",
    # what tasks and metrics mean
    "Which of a few labels does a passage deserve?": "一段文字该归入哪一类？",
    "Given a one-line query, find the one document that it belongs to.": "给出一行查询，找到它所属的那篇文档。",
    "Read a passage, write its summary line.": "读一段文字，写出一行摘要。",
    "Go on writing from a prompt. A higher temperature takes more risks.": "从提示接着往下写。温度越高，越敢冒险。",
    "Fill in the word that was taken out of a sentence.": "把句子里挖去的词填回来。",
    "Say the same in another language.": "用另一种语言说同样的话。",
    "Find the answer to a question in a passage.": "在一段文字里找到问题的答案。",
    "how many bits the model needs for each byte of unseen text; fewer is better": (
        "模型表示每个字节的未见文本所需的比特数，越少越好"
    ),
    "between how many equally likely tokens the model wavers; fewer is better": (
        "相当于在多少个同样可能的词元之间犹豫，越少越好"
    ),
    "share of hidden tokens guessed exactly": "被遮住的词元中完全猜对的比例",
    "does the second passage really follow the first?": "第二段是否真的接在第一段之后？",
    "the mean surprise at a token, in nats; fewer is better": "对每个词元的平均意外程度（奈特），越少越好",
    "share of answers that are right": "答对的比例",
    "precision and recall in one number, every label counting the same": "精确率与召回率合为一数，各类同等重要",
    "one over the rank of the right document, on average": "正确文档名次的倒数，取平均",
    "how high among the first ten the right document stands": "正确文档在前十名中排得多靠前",
    "share of queries whose document is among the first ten": "正确文档进入前十名的查询比例",
    "words shared with the reference": "与参考摘要相同的词",
    "pairs of words shared with the reference": "与参考摘要相同的相邻词对",
    "longest run of words, in order, shared with the reference": "与参考摘要共有的最长有序词列",
    "share of pairs of words that are no repetition": "不重复的相邻词对所占比例",
    # what the demonstration remarks on
    "the same examples, the same minutes of fine-tuning": "同样的样例，同样的微调时间",
    "GPT sees what stands before the word, BERT both sides": "GPT 只看词的前文，BERT 看前后两边",
    "GPT writes; BERT can only choose a sentence of the passage": "GPT 自己写，BERT 只能从原文中选一句",
    "too few examples to test on": "可供测试的样例太少",
    "plain text comes without summaries": "纯文本没有附带摘要",
    "the text lies in one folder; several folders would be the classes": "文本都在一个文件夹里；若有几个文件夹，便以它们为类别",
    "no text is long enough to take a word out of it": "没有足够长的文本可供挖词",
    # the story
    "Two ways to read one text": "同一份文本，两种读法",
    "A GPT, which writes on from left to right, and a BERT, which reads both ways, trained from nothing on {corpus} "
    "and measured beside simpler methods.": (
        "一个从左往右续写的 GPT，一个左右兼顾阅读的 BERT，都在{corpus}上从零训练，并与更简单的方法对照。"
    ),
    "your text": "你的文本",
    "{time} in all": "总共用时 {time}",
    "{count} cores": "{count} 核",
    "seed {seed}": "随机种子 {seed}",
    "At a glance": "一览",
    "better than {name}": "优于「{name}」",
    "level with {name}": "与「{name}」持平",
    "behind {name}": "不及「{name}」",
    "not pretrained": "未预训练",
    "No figure has been measured yet.": "还没有测得任何数字。",
    "The text": "文本",
    "What the models read, and how it was divided. A model is never tested on text that it was trained on.": (
        "模型读了什么，又是怎样划分的。模型绝不会用训练过的文本来测试。"
    ),
    "Nothing is recorded about the text.": "没有关于文本的记录。",
    "documents": "文档",
    "size": "大小",
    "tokens": "词元",
    "Part": "部分",
    "All": "全部",
    "Tokenizer": "分词器",
    "vocabulary": "词表",
    "bytes per token": "每词元字节数",
    "Pretraining: learning the language": "预训练：学会语言",
    "Before any task, both models read the text with nobody telling them what it means.": (
        "在做任何任务之前，两个模型先自己读文本，没有人告诉它们意思。"
    ),
    "Reads from left to right and guesses every next token. That makes it a writer.": (
        "从左往右读，猜每一个下一词元。所以它会写。"
    ),
    "Sees the text on both sides and guesses the tokens that were hidden. That makes it a reader.": (
        "同时看到左右两边的文字，猜出被遮住的词元。所以它会读。"
    ),
    "It was not pretrained in this run.": "这次运行没有预训练它。",
    "recipe": "配方",
    "parameters": "参数",
    "tokens read": "读过的词元",
    "time": "用时",
    "tokens per second": "每秒词元",
    "tokens seen": "已读词元",
    "steps": "步",
    "each batch": "每批",
    "smoothed": "平滑",
    "Dashed lines are yardsticks: what methods without a neural network reach on the same text.": (
        "虚线是标尺：不用神经网络的方法在同样文本上的成绩。"
    ),
    "Tasks: putting it to use": "任务：学以致用",
    "The pretrained models, fine-tuned, beside their twins that skipped pretraining and beside simple baselines. "
    "The best figure of each column is in bold.": (
        "预训练过的模型经微调后，与跳过预训练的孪生模型、以及简单基线对照。每列最好的数字用粗体。"
    ),
    "No task was measured in this run.": "这次运行没有测任何任务。",
    "Method": "方法",
    "Time": "用时",
    "baseline": "基线",
    "{metric}: longer is better": "{metric}：越长越好",
    "{metric}: shorter is better": "{metric}：越短越好",
    "whiskers show the confidence interval": "须线表示置信区间",
    "examples": "样例",
    "Which label was taken for which": "哪类被认成了哪类",
    "Rows: the true label. Columns: the label given. A perfect model fills only the diagonal.": (
        "行是真实标签，列是模型给出的标签。完美的模型只会填满对角线。"
    ),
    "Examples": "样例",
    "right": "正确",
    "wrong": "错误",
    "temperature {value}": "温度 {value}",
    "no temperature recorded": "未记录温度",
    "all {count} characters": "全部 {count} 个字符",
    "GPT or BERT?": "GPT 还是 BERT？",
    "The same measure for both, on the same test. Each is good at what it was made for.": (
        "同样的测试、同样的尺度。各有所长。"
    ),
    "The two were not measured side by side in this run.": "这次运行没有把两者并排测量。",
    "Task": "任务",
    "Tasks": "任务",
    "Measure": "指标",
    "Note": "说明",
    "Where the time went": "时间花在哪里",
    "No timings were recorded.": "没有记录用时。",
    "What is missing, and why": "缺了什么，为什么",
    "Go on from here": "接下来",
    "The models are yours, on your disk. A click selects a whole command.": (
        "模型归你，就在你的磁盘上。点一下即可选中整条命令。"
    ),
    "Every figure of this page is in {file}. The same plan, seed and versions give the same figures.": (
        "本页所有数字都在 {file} 里。同样的计划、种子和版本会得到同样的数字。"
    ),
    "made by bothways {version}": "由 bothways {version} 生成",
    "Model": "模型",
    "Score": "成绩",
    "Not pretrained": "未预训练",
    "Best yardstick": "最强标尺",
    "missing": "缺少",
    "{minutes} min {seconds} s": "{minutes} 分 {seconds} 秒",
    "{hours} h {minutes} min": "{hours} 小时 {minutes} 分",
    "{seconds} s": "{seconds} 秒",
}

_SHARES = ("accuracy", "f1", "recall", "precision", "exact_match", "share")


class Wording:
    """Says everything in one language. Call it with an English sentence and its values.

    >>> Wording("zh")("{count} cores", count=2)
    '2 核'
    >>> Wording("en").number("accuracy", 0.9017)
    '90.2 %'
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def __call__(self, english: str, **values: object) -> str:
        """A sentence in the language, its ``{values}`` filled in."""
        sentence = CHINESE.get(english, english) if self.language == "zh" else english
        return sentence.format(**values) if values else sentence

    def task(self, name: str) -> str:
        """The name of a task."""
        return self(TASKS[name][0] if name in TASKS else _plain(name).capitalize())

    def task_meaning(self, name: str) -> str:
        """What a task asks; empty for an unknown one."""
        return self(TASKS[name][1]) if name in TASKS else ""

    def arm(self, name: str) -> str:
        """The name of a method."""
        return self(ARMS.get(name) or _plain(name))

    def metric(self, name: str) -> str:
        """The name of a metric."""
        return self(METRICS[name][0] if name in METRICS else _plain(name))

    def metric_meaning(self, name: str) -> str:
        """What a metric says; empty for an unknown one."""
        return self(METRICS[name][1]) if name in METRICS else ""

    def stage(self, name: str) -> str:
        """The name of a stage of the run, or of the task that it is."""
        return self(STAGES[name]) if name in STAGES else self.task(name)

    def field(self, name: str) -> str:
        """The name of a field of an example, or of the arm that answered."""
        return self(FIELDS[name]) if name in FIELDS else self.arm(name)

    def number(self, metric: str, value: Any) -> str:
        """A score as its metric is usually read: shares of a whole as per cent, the rest to three digits."""
        if not _is_number(value):
            return "—" if value is None else str(value)
        if any(word in metric for word in _SHARES) and 0 <= value <= 1:
            return f"{100 * value:.1f} %"
        return f"{value:.3f}" if abs(value) < 10 else compact(value)

    def duration(self, seconds: Any) -> str:
        """Seconds in the two largest units that matter."""
        if not _is_number(seconds):
            return "—" if seconds is None else str(seconds)
        whole = round(seconds)
        if whole >= 3600:
            return self("{hours} h {minutes} min", hours=whole // 3600, minutes=whole % 3600 // 60)
        if whole >= 60:
            return self("{minutes} min {seconds} s", minutes=whole // 60, seconds=whole % 60)
        return self("{seconds} s", seconds=whole if whole >= 10 else f"{seconds:.2g}")


def compact(value: Any, *, digits: int = 3) -> str:
    """A count or a quantity in few characters, of so many digits that count: 1234567 → '1.23 M'.

    >>> compact(4096), compact(12_300_000), compact(0.25), compact(640)
    ('4.1 k', '12.3 M', '0.25', '640')
    """
    if not _is_number(value):
        return "—" if value is None else str(value)
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{_rounded(value / size, digits)}{unit}"
    return _rounded(value, digits)


def _rounded(value: float, digits: int) -> str:
    """A number to its first digits, all of those before the point, and none that are nought behind it."""
    return f"{value:,.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:.{digits}g}"


def count(value: Any) -> str:
    """A count in full: 28100 → '28,100'."""
    return f"{value:,}" if _is_number(value) else compact(value)


def size(count: Any) -> str:
    """Bytes in decimal units: 4200000 → '4.2 MB'."""
    if not _is_number(count):
        return compact(count)
    return f"{compact(count)}B" if abs(count) >= 1000 else f"{compact(count)} B"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(name: str) -> str:
    return name.replace("_", " ")
