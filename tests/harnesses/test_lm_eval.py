"""A model says in lm-evaluation-harness what the harness's own model says of the same files, and refuses what it cannot do."""

import json
import subprocess
import sys

import numpy as np
import pytest
from small_models import MODELS, make

from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.tasks.minimal_pairs import MinimalPairs

pytestmark = pytest.mark.engines
LONG = "the old man and the sea and the old man " * 6
PAIRS = [
    ("the old", " man"),
    ("the old ", "man"),
    ("the old", " sea"),
    ("", "the old man"),
    ("", "我们今天去北京"),
    ("the", " old man and the sea"),
    ("我们今天去北京", "，明天回来"),
    ("他们今天去南京，", "明天回来"),
    (LONG, " sea"),
    ("the sea", LONG[:90]),
]
CONTEXTS = ["the old", LONG, "我们今天", "他们", ""]
OPTIONS = [
    {"until": ["\n"], "max_gen_toks": 20, "do_sample": False},
    {"until": " sea", "max_gen_toks": 20},
    {"until": ["，", "。"], "max_gen_toks": 30, "temperature": 0.0},
    {"until": ["北京", "回来。他们"], "max_new_tokens": 12},
    {"until": [], "max_gen_toks": 16},
]
TASKS = {
    "choices": """
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: ["man", "sea", "mountain"]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "words": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{context}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}]
""",
    "writes": """
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: " {{answer}}"
generation_kwargs: {until: [" and", "\\n"], max_gen_toks: 8}
metric_list: [{metric: exact_match}]
""",
}
EXAMPLES = [{"context": "the old", "answer": "man"}, {"context": "the old man and the", "answer": "sea"}]


@pytest.fixture(scope="module")
def harness():
    return pytest.importorskip("bothways.harnesses.lm_eval")


@pytest.fixture
def ours(harness, folders):
    return harness.BothwaysLM(str(folders["GPT"]), device="cpu")


def theirs(folder, **settings):
    # Its cache of logits takes the wrong position where continuations of different lengths read the same tokens.
    settings = {"logits_cache": False, **settings}
    return pytest.importorskip("lm_eval.models.huggingface").HFLM(
        pretrained=str(folder), device="cpu", batch_size=1, **settings
    )


def requests(kind, arguments):
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    return [instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]


@pytest.fixture
def tasks(tmp_path):
    """Return a folder of tasks on files of its own."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "examples.jsonl").write_text("\n".join(map(json.dumps, EXAMPLES)), encoding="utf-8")
    for name, text in TASKS.items():
        data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'examples.jsonl'}}}}}\ntest_split: test"
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}{text}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["GPT", "hybrid"])
@pytest.mark.parametrize("batch_size", ["auto", 1])
def test_likelihoods_are_those_of_the_harness_s_own_model(harness, folders, name, batch_size):
    asked = requests("loglikelihood", PAIRS)
    ours = harness.BothwaysLM(str(folders[name]), device="cpu", batch_size=batch_size).loglikelihood(asked)
    expected = theirs(folders[name]).loglikelihood(asked)
    np.testing.assert_allclose([each for each, _ in ours], [each for each, _ in expected], atol=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in ours} == {True, False}


@pytest.mark.parametrize("name", ["GPT", "hybrid"])
def test_whole_texts_are_read_in_the_same_windows(harness, folders, name):
    asked = requests("loglikelihood_rolling", [("the old man",), (LONG,), ("我们今天去北京，" * 9,), ("",)])
    # The harness's own model asks for the start token, too, unless it is told to leave it out.
    expected = theirs(folders[name], add_bos_token=False).loglikelihood_rolling(asked[:-1])
    ours = harness.BothwaysLM(str(folders[name]), device="cpu").loglikelihood_rolling(asked)
    np.testing.assert_allclose(ours, [*expected, 0.0], atol=1e-4)


@pytest.mark.parametrize("name", ["GPT", "hybrid"])
def test_the_same_is_written(harness, folders, name):
    asked = requests("generate_until", [(context, options) for context in CONTEXTS for options in OPTIONS])
    ours = harness.BothwaysLM(str(folders[name]), device="cpu").generate_until(asked)
    assert ours == theirs(folders[name]).generate_until(asked)
    assert len(set(ours)) > len(CONTEXTS)


def test_sentences_have_the_scores_that_minimal_pairs_give_them(ours, folders):
    sentences = ["the old man and the sea", "the sea and the old", "我们今天去北京", "我们去北京今天"]
    expected = MinimalPairs(attention="causal").scores(load(folders["GPT"]), sentences)
    found = ours.loglikelihood(requests("loglikelihood", [("", sentence) for sentence in sentences]))
    np.testing.assert_allclose([each for each, _ in found], expected, atol=1e-4)


def test_a_shorter_length_is_the_harness_s_too(harness, folders):
    asked = requests("loglikelihood", PAIRS[:-1])
    ours = harness.BothwaysLM(str(folders["GPT"]), device="cpu", max_length=12).loglikelihood(asked)
    expected = theirs(folders["GPT"], max_length=12).loglikelihood(asked)
    np.testing.assert_allclose([each for each, _ in ours], [each for each, _ in expected], atol=1e-4)


def test_no_character_is_lost_where_a_token_would_span_both_texts(ours, tokenizer):
    assert len(tokenizer.encode("我们今天去北京")) == 1
    before, after = ours._encode_pair("我们今天", "去北京")
    assert (tokenizer.decode(before), tokenizer.decode(after)) == ("我们今天", "去北京")
    assert ours.loglikelihood(requests("loglikelihood", [("我们今天", "去北京")]))[0][0] < 0
    assert ours.loglikelihood(requests("loglikelihood", [("the", "")])) == [(0.0, True)]


def test_writing_ends_as_soon_as_a_text_is_there_that_ends_it(ours, tokenizer):
    steps = []
    ours._loaded.model.transformer.register_forward_pre_hook(lambda *_: steps.append(1))
    (text,) = ours.generate_until(
        requests("generate_until", [("我们今天去北京", {"until": ["。"], "max_gen_toks": 30})])
    )
    assert text == "，明天回来"
    assert len(steps) == len(tokenizer.encode("，明天回来。"))


def test_sampling_is_drawn_from_the_seed_and_asking_twice_gives_two_texts(harness, folders):
    options = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 3.0, "top_k": 20, "top_p": 0.99}
    asked = requests("generate_until", [("the", options), ("the", options)])
    texts = [
        harness.BothwaysLM(str(folders["GPT"]), device="cpu", seed=seed).generate_until(asked) for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0] != texts[0][1]


def test_options_become_sampling(harness):
    def how(**options):
        return harness.writing(options)

    assert how(do_sample=True).sampling.temperature == 1
    assert how(do_sample=False, temperature=0.7).sampling.temperature == 0
    assert how(temperature=0.7, top_k=5, top_p=0.9).sampling.to_dict() == {
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "repetition_penalty": 1.0,
    }
    assert how(until="。", max_tokens=7, num_beams=1).max_gen_toks == 7
    assert how(until=["", "。"]).until == ("。",)
    assert how().max_gen_toks is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"typical_p": 0.9}, "unknown generation option 'typical_p'"),
        ({"num_beams": 4}, "no beam search"),
        ({"top_p": 2, "do_sample": True}, "top_p must be above 0"),
        ({"until": [3]}, "until must be a text"),
        ({"max_gen_toks": 48}, "leaves no room for a context; pass --gen_kwargs max_gen_toks=24"),
        ({"max_gen_toks": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(ours, options, message):
    with pytest.raises(UserError, match=message):
        ours.generate_until(requests("generate_until", [("the", options)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "unknown model argument 'dtype'; legal: .*precision"),
        ({"max_length": 49}, "from 2 to 48"),
        ({"batch_size": "many"}, "batch_size must be auto"),
        ({"device": "nowhere"}, "cannot be put on the device 'nowhere'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(harness, folders, settings, message):
    with pytest.raises(UserError, match=message):
        harness.BothwaysLM(str(folders["GPT"]), **settings)


def test_what_cannot_be_asked_is_refused(harness, ours, tmp_path, tokenizer):
    bert = make(tmp_path / "bert", tokenizer, *MODELS["our BERT"])
    with pytest.raises(UserError, match="take a GPT or a hybrid"):
        harness.BothwaysLM(str(bert), device="cpu")
    with pytest.raises(UserError, match="a continuation has"):
        ours.loglikelihood(requests("loglikelihood", [("the", LONG)]))
    with pytest.raises(UserError, match="no chat template"):
        ours.apply_chat_template([])


def test_what_is_cut_is_said(ours, caplog):
    ours.loglikelihood(requests("loglikelihood", PAIRS[-2:-1]))
    assert "lost their beginning: 1 of 1" in caplog.text


@pytest.mark.usefixtures("harness")
def test_whole_tasks_give_the_same_figures(folders, tasks):
    lm_eval = pytest.importorskip("lm_eval")
    manager = pytest.importorskip("lm_eval.tasks").TaskManager(include_path=str(tasks))
    settings = {"tasks": list(TASKS), "task_manager": manager, "bootstrap_iters": 0}
    arguments = {"pretrained": str(folders["GPT"])}
    found = lm_eval.simple_evaluate(model="bothways", model_args=arguments, device="cpu", **settings)
    expected = lm_eval.simple_evaluate(model=theirs(folders["GPT"], add_bos_token=False), **settings)
    assert found["results"]["choices"]["acc,none"] == 1
    for name in ("word_perplexity,none", "byte_perplexity,none"):
        assert found["results"]["words"][name] == pytest.approx(expected["results"]["words"][name], rel=1e-5)
    assert found["results"]["writes"]["exact_match,none"] == 1
    assert found["config"]["model_dtype"] == "fp32"


def test_the_command_line_runs_tasks_and_says_mistakes_in_a_sentence(folders, tasks):
    command = [sys.executable, "-m", "bothways.harnesses.lm_eval", "--model", "bothways", "--tasks", "choices"]
    command += ["--include_path", str(tasks), "--device", "cpu", "--model_args"]
    done = subprocess.run([*command, f"pretrained={folders['GPT']}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "|choices|" in done.stdout
    done = subprocess.run([*command, "pretrained=/nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == "Error: there is no folder '/nowhere'"
    assert "Traceback" not in done.stderr
