import json
import random
import shutil
import stat
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.errors import DamagedFileError, NonFiniteError, UserError


def assert_same_weights(model, other):
    weights = dict(model.named_parameters())
    assert weights.keys() == dict(other.named_parameters()).keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in other.named_parameters())


def edit_config(folder, **changes):
    """Change config.json as its owner may: the manifest goes with it, so that the folder is as anyone's."""
    for name in ("manifest.json", "state.json", "training.safetensors"):
        (folder / name).unlink(missing_ok=True)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))


def edit_weights(folder, change):
    """Change the tensors of a folder, with no manifest left to notice."""
    edit_config(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_everything_comes_back(tmp_path, tokenizer, make_model):
    model = make_model({"language_model": 0, "classification": 2})
    training = {
        "a.b": torch.randn(2, 3).T,
        "bits": torch.randint(0, 256, (9,), dtype=torch.uint8),
        "n": torch.tensor(3),
    }
    state = {"step": 3, "loss": 0.1 + 0.2, "names": ["a", "b"], "nested": {"none": None, "yes": True}, "big": 2**70}
    save_checkpoint(
        tmp_path / "step-3",
        model,
        tokenizer=tokenizer,
        labels=["bad", "good"],
        training=training,
        state=state,
        details={"task": "classification"},
    )
    loaded = load_checkpoint(tmp_path / "step-3")
    assert_same_weights(model, loaded.model)
    assert loaded.model.config == model.config
    assert loaded.labels == ("bad", "good")
    assert loaded.state == state
    assert loaded.config["task"] == "classification"
    assert loaded.tokenizer.encode("the lazy fox") == tokenizer.encode("the lazy fox")
    read = loaded.training()
    assert read.keys() == training.keys()
    assert all(torch.equal(read[name], training[name]) and read[name].dtype == training[name].dtype for name in read)
    assert sorted(file.name for file in (tmp_path / "step-3").iterdir()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.safetensors",
    ]
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-3"]


def test_a_bare_model_is_enough(tmp_path, make_model):
    save_checkpoint(tmp_path / "bare", make_model({}))
    loaded = load_checkpoint(tmp_path / "bare")
    assert (loaded.tokenizer, loaded.labels, loaded.state) == (None, None, None)
    assert not loaded.model.heads
    with pytest.raises(UserError, match="no training state"):
        loaded.training()


def test_a_tied_decoder_is_stored_once_and_stays_tied(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model())
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    model = load_checkpoint(tmp_path).model
    assert model.heads["language_model"].decoder.weight is model.transformer.embed_tokens.weight


def test_loading_draws_no_random_numbers_but_for_new_heads(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model({"language_model": 0, "classification": 2}))
    before = torch.get_rng_state()
    load_checkpoint(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    load_checkpoint(tmp_path, heads={"span": 0})
    assert not torch.equal(torch.get_rng_state(), before)


def test_what_is_loaded_does_not_hang_on_the_file(tmp_path, make_model):
    model = make_model()
    save_checkpoint(tmp_path / "x", model)
    loaded = load_checkpoint(tmp_path / "x")
    size = (tmp_path / "x" / "model.safetensors").stat().st_size
    (tmp_path / "x" / "model.safetensors").write_bytes(bytes(size))
    assert_same_weights(model, loaded.model)


def test_the_same_model_gives_the_same_bytes(tmp_path, make_model, tokenizer):
    model = make_model()
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, model, tokenizer=tokenizer, state={"step": 1}, training={"x": torch.ones(2)})
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_special_tokens_and_classes_are_told_to_hugging_face(tmp_path, make_model, tokenizer):
    save_checkpoint(tmp_path, make_model({"classification": 3}), tokenizer=tokenizer)
    values = json.loads((tmp_path / "config.json").read_text())
    for role in ("bos", "eos", "pad", "mask"):
        assert values[f"{role}_token_id"] == tokenizer.special_id(role)
    assert values["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert values["dtype"] == "float32"
    assert load_checkpoint(tmp_path).labels is None


def test_hugging_face_reads_the_tokenizer_too(tmp_path, make_model, tokenizer):
    from transformers import AutoTokenizer

    save_checkpoint(tmp_path, make_model(), tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the quick fox", "北京 today", " spaces  and\nlines"):
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert theirs.pad_token_id == tokenizer.special_id("pad")


def test_weights_in_half_precision_are_read_as_float32(tmp_path, make_model):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        model = make_model()
        save_checkpoint(tmp_path, model.to(dtype))
        loaded = load_checkpoint(tmp_path).model
        assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
        assert_same_weights(model.float(), loaded)


def test_files_may_be_read_by_whom_the_umask_says(tmp_path, save):
    save(tmp_path / "x")
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "x").iterdir()}
    assert len(modes) == 1


def test_infinite_weights_are_neither_saved_nor_loaded(tmp_path, make_model):
    model = make_model()
    save_checkpoint(tmp_path / "x", model)
    edit_weights(tmp_path / "x", lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    with pytest.raises(DamagedFileError, match=r"model\.norm\.weight.*infinite or undefined"):
        load_checkpoint(tmp_path / "x")
    model.transformer.norm.weight.data[0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"transformer\.norm\.weight"):
        save_checkpoint(tmp_path / "y", model)
    assert not (tmp_path / "y").exists()


# Heads


def test_heads_that_are_not_stored_are_fresh_and_those_not_asked_for_are_left(tmp_path, make_model):
    model = make_model({"language_model": 0, "classification": 3, "next_sentence": 0})
    save_checkpoint(tmp_path, model)
    loaded = load_checkpoint(tmp_path, heads={"span": 0, "classification": 0})
    assert list(loaded.model.heads) == ["classification", "span"]
    assert loaded.new_heads == ("span",)
    assert set(loaded.unused) == {
        f"heads.next_sentence.{layer}.{kind}" for layer in ("dense", "output") for kind in ("weight", "bias")
    }
    assert torch.equal(loaded.model.heads["classification"].output.weight, model.heads["classification"].output.weight)


def test_another_number_of_classes_needs_a_fresh_head(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model({"classification": 3}))
    same = load_checkpoint(tmp_path, heads={"classification": 3})
    assert (same.new_heads, same.unused) == ((), ())
    other = load_checkpoint(tmp_path, heads={"classification": 5})
    assert (other.new_heads, other.unused) == (("classification",), ("score.weight",))
    assert other.model.heads["classification"].output.out_features == 5


def test_a_head_without_weights_comes_back(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model({"embedding": 0}))
    assert list(load_checkpoint(tmp_path).model.heads) == ["embedding"]


def test_heads_that_the_family_has_no_place_for_keep_our_names(tmp_path, make_model):
    model = make_model({"classification": 2, "next_sentence": 0}, pooling="mean", pooler="tanh")
    save_checkpoint(tmp_path, model)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"heads.classification.dense.weight", "heads.next_sentence.output.bias"} < names
    loaded = load_checkpoint(tmp_path)
    assert loaded.model.config == model.config
    assert_same_weights(model, loaded.model)


def bert_settings():
    return {
        "attention": "bidirectional",
        "position": "learned",
        "norm": "layer",
        "norm_position": "post",
        "activation": "gelu",
        "bias": True,
        "type_vocab_size": 2,
        "head_transform": True,
        "pooling": "first",
        "pooler": "tanh",
    }


def test_bert_has_one_pooler_and_two_heads_keep_theirs(tmp_path, make_model):
    model = make_model({"next_sentence": 0, "classification": 3}, **bert_settings())
    save_checkpoint(tmp_path, model)
    tensors = load_file(tmp_path / "model.safetensors")
    assert torch.equal(tensors["bert.pooler.dense.weight"], model.heads["classification"].dense.weight)
    assert torch.equal(tensors["heads.next_sentence.dense.weight"], model.heads["next_sentence"].dense.weight)
    assert_same_weights(model, load_checkpoint(tmp_path).model)


def test_a_new_classifier_starts_from_the_pooler_of_pretraining(tmp_path, make_model):
    model = make_model({"language_model": 0, "next_sentence": 0}, **bert_settings())
    save_checkpoint(tmp_path, model)
    loaded = load_checkpoint(tmp_path, heads={"classification": 4})
    assert loaded.new_heads == ("classification",)
    assert torch.equal(loaded.model.heads["classification"].dense.weight, model.heads["next_sentence"].dense.weight)
    assert "cls.seq_relationship.weight" in loaded.unused
    assert "bert.pooler.dense.weight" not in loaded.unused


def test_old_bert_files_are_read(tmp_path, make_model):
    model = make_model({"language_model": 0, "next_sentence": 0}, **bert_settings())
    save_checkpoint(tmp_path, model)

    def age(tensors):
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(16)[None]
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()

    edit_weights(tmp_path, age)
    assert_same_weights(model, load_checkpoint(tmp_path).model)


@pytest.mark.parametrize(("prefix", "settings"), [("bert.", bert_settings()), ("model.", {}), ("transformer.", None)])
def test_a_trunk_that_was_saved_without_its_prefix_is_read(tmp_path, make_model, prefix, settings):
    gpt = {"position": "learned", "norm": "layer", "activation": "gelu_tanh", "bias": True}
    model = make_model({}, **(gpt if settings is None else settings))
    save_checkpoint(tmp_path, model)

    def shorten(tensors):
        for name in list(tensors):
            assert name.startswith(prefix)
            tensors[name.removeprefix(prefix)] = tensors.pop(name)
        if settings is None:
            tensors["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)

    edit_weights(tmp_path, shorten)
    assert_same_weights(model, load_checkpoint(tmp_path).model)


def test_the_same_weight_under_two_names_is_refused(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model({}, **bert_settings()))
    edit_weights(tmp_path, lambda tensors: tensors.update({"bert.embeddings.LayerNorm.gamma": torch.ones(8)}))
    with pytest.raises(UserError, match="one and the same weight"):
        load_checkpoint(tmp_path)


# Weights that do not fit


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), r"missing: model\.norm\.weight"),
        (lambda tensors: tensors.update(extra=torch.ones(2)), r"unexpected: extra"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(9)}), r"wrong shape: .* is \[9\], not \[8\]"),
        (
            lambda tensors: tensors.update({"model.layers.7.mlp.up_proj.weight": torch.ones(12, 8)}),
            r"unexpected: model\.layers\.7",
        ),
        (
            lambda tensors: tensors.clear() or tensors.update(x=torch.ones(1)),
            r"missing: .* and \d+ more; unexpected: x",
        ),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(8, dtype=torch.int64)}),
            r"stored as I64; a weight must be one of",
        ),
        (
            lambda tensors: tensors.update({"lm_head.weight": torch.ones(270, 8)}),
            r"ties the decoder to the embeddings, and lm_head\.weight differs",
        ),
    ],
)
def test_every_tensor_is_accounted_for(tmp_path, make_model, change, complaint):
    save_checkpoint(tmp_path, make_model())
    edit_weights(tmp_path, change)
    with pytest.raises(UserError, match=complaint):
        load_checkpoint(tmp_path)


def test_half_a_head_is_refused(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model({"span": 0}))
    edit_weights(tmp_path, lambda tensors: tensors.pop("heads.span.output.bias"))
    with pytest.raises(UserError, match=r"missing: heads\.span\.output\.bias"):
        load_checkpoint(tmp_path)


def test_a_head_that_the_settings_name_and_the_file_lacks_is_refused(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model({"span": 0}))
    edit_weights(tmp_path, lambda tensors: [tensors.pop(name) for name in list(tensors) if "span" in name])
    with pytest.raises(UserError, match="weights are missing: span"):
        load_checkpoint(tmp_path)


def test_settings_of_another_size_are_refused(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model())
    edit_config(tmp_path, num_hidden_layers=3)
    with pytest.raises(UserError, match=r"missing: model\.layers\.2\."):
        load_checkpoint(tmp_path)
    edit_config(tmp_path, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"unexpected: model\.layers\.1\."):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"model_type": "robert"},
            r"unknown model_type in config\.json 'robert'; legal: .*bert.* Did you mean 'roberta'",
        ),
        ({"model_type": None}, "unknown model_type"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be a whole number from 1 to 10,000, not 1000000000"),
        ({"hidden_size": "64"}, "hidden_size must be a whole number"),
        ({"hidden_act": "mish"}, r"unknown hidden_act in config\.json 'mish'; legal: gelu, silu, swish"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_parameters has the type 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling has the type 'linear'"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta must be above 0"),
        ({"attention_bias": True}, "attention_bias and mlp_bias must be the same"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be above 0"),
        ({"bothways": []}, None),
        ({"bothways": "x"}, "bothways must be a JSON object"),
        ({"bothways": {"heads": ["span"]}}, "bothways.heads must map names"),
        ({"bothways": {"heads": {"spam": 0}}}, "unknown head 'spam'"),
        ({"bothways": {"settings": {"num_hidden_layers": 3}}}, "contradicts the rest"),
        ({"bothways": {"settings": {"hidden_dropout": 2.0}}}, "hidden_dropout"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must map"),
        ({"id2label": ["a"]}, "id2label must map"),
    ],
)
def test_nonsense_in_the_settings_is_one_sentence(tmp_path, make_model, changes, complaint):
    save_checkpoint(tmp_path, make_model())
    edit_config(tmp_path, **changes)
    if complaint is None:
        assert load_checkpoint(tmp_path).model
        return
    with pytest.raises(UserError, match=complaint):
        load_checkpoint(tmp_path)


def test_rope_theta_is_read_in_the_old_and_the_new_spelling(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model(rope_theta=5000.0))
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["rope_theta"] == values["rope_parameters"]["rope_theta"] == 5000.0
    edit_config(tmp_path, rope_parameters=None)
    assert load_checkpoint(tmp_path).model.config.rope_theta == 5000.0
    edit_config(tmp_path, rope_parameters={"rope_theta": 5000, "rope_type": "default"}, rope_theta=None)
    assert load_checkpoint(tmp_path).model.config.rope_theta == 5000.0
    edit_config(tmp_path, rope_parameters=None, rope_theta=None)
    assert load_checkpoint(tmp_path).model.config.rope_theta == 10_000.0


def test_eurobert_reads_classes_late_in_no_classifier(tmp_path, make_model):
    model = make_model({"classification": 2}, attention="bidirectional", pooling="mean", pooler="gelu")
    save_checkpoint(tmp_path, model)
    edit_config(tmp_path, classifier_pooling="late")
    with pytest.raises(UserError, match=r"'late'.* is not supported for a classifier; supported: bos, mean"):
        load_checkpoint(tmp_path)
    edit_config(tmp_path, architectures=["EuroBertForMaskedLM"], bothways={})
    assert load_checkpoint(tmp_path).model.config.pooling == "mean"


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, make_model, tokenizer):
    save_checkpoint(tmp_path, make_model(vocab_size=269), tokenizer=tokenizer)
    with pytest.raises(UserError, match="has 270 tokens, and the model knows 269"):
        load_checkpoint(tmp_path)


# Several files, other files


@pytest.fixture
def shards(tmp_path, make_model):
    """Return a model and a folder that holds it in three files and an index."""
    model = make_model()
    save_checkpoint(tmp_path, model)
    edit_config(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    weight_map = {name: names[at % 3] for at, name in enumerate(tensors)}
    for file in names:
        part = {name: tensor for name, tensor in tensors.items() if weight_map[name] == file}
        save_file(part, tmp_path / file, metadata={"format": "pt"})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return model, tmp_path, index, weight_map


def test_several_files_are_read_as_one(shards):
    model, folder, _, _ = shards
    assert_same_weights(model, load_checkpoint(folder).model)


def test_files_that_disagree_with_their_index_are_refused(shards):
    _, folder, index, weight_map = shards
    for wrong in ({}, {**weight_map, "x": "../../x.safetensors"}, {**weight_map, "x": 3}, "x"):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(DamagedFileError, match="weight_map"):
            load_checkpoint(folder)
    index.write_text(json.dumps({"weight_map": {**weight_map, "ghost": "model-00001-of-00003.safetensors"}}))
    with pytest.raises(DamagedFileError, match="disagree on the tensor 'ghost'"):
        load_checkpoint(folder)
    index.write_text(json.dumps({"weight_map": weight_map}))
    shutil.copy(folder / "model-00001-of-00003.safetensors", folder / "model-00002-of-00003.safetensors")
    with pytest.raises(DamagedFileError, match=r"is in .*00001.* and in .*00002"):
        load_checkpoint(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(DamagedFileError, match="there is no"):
        load_checkpoint(folder)


def test_a_pickle_is_never_opened(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model())
    edit_config(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"only pytorch_model\.bin: a pickle.*bothways convert-pickle"):
        load_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        load_checkpoint(tmp_path)


def test_code_in_the_folder_is_never_run(tmp_path, make_model, tokenizer):
    save_checkpoint(tmp_path / "x", make_model(), tokenizer=tokenizer)
    edit_config(tmp_path / "x", auto_map={"AutoModel": "modeling_x.Model"}, trust_remote_code=True)
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w')\n"
    for name in ("modeling_x.py", "__init__.py", "sitecustomize.py", "torch.py"):
        (tmp_path / "x" / name).write_text(trap)
    code = "from bothways.checkpoints.checkpoint import load_checkpoint; import sys; load_checkpoint(sys.argv[1])"
    subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path / "x")], check=True, cwd=tmp_path / "x")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1, "a": 2}', "[" * 100_000, "\x00", '{"model_type": "llama"}'])
def test_a_config_file_that_is_none_is_refused(tmp_path, make_model, text):
    save_checkpoint(tmp_path, make_model())
    edit_config(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_a_folder_without_config_or_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*config\.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load_checkpoint(tmp_path / "nowhere")


def test_files_that_are_no_safetensors_are_refused(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model())
    edit_config(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    draw = random.Random(0)
    broken = [
        b"",
        whole[:7],
        whole[:8],
        whole[:-1],
        whole + b"x",
        b"\xff" * 64,
        (2**63).to_bytes(8, "little") + whole[8:],
    ]
    broken += [bytes(draw.randrange(256) for _ in range(200)) for _ in range(20)]
    for content in broken:
        file.write_bytes(content)
        with pytest.raises(DamagedFileError, match="not a valid safetensors file"):
            load_checkpoint(tmp_path)


def test_the_stored_file_says_it_is_for_torch(tmp_path, make_model):
    save_checkpoint(tmp_path, make_model())
    with safe_open(tmp_path / "model.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}


# A model that says a hidden token at the position before it


@pytest.mark.parametrize("settings", [{"attention": "bidirectional"}, {"hybrid": True}])
def test_where_hidden_tokens_are_said_is_saved_and_read_back(tmp_path, make_model, settings):
    model = make_model(**settings)
    save_checkpoint(tmp_path / "plain", model)
    model.shifted = True
    save_checkpoint(tmp_path / "shifted", model)
    assert not load_checkpoint(tmp_path / "plain").model.shifted
    for attention in ("bidirectional", "causal") if "hybrid" in settings else (None,):
        loaded = load_checkpoint(tmp_path / "shifted", attention=attention)
        assert loaded.model.shifted
        assert loaded.config["bothways"]["shifted"] is True
    save_checkpoint(tmp_path / "again", loaded.model)
    assert load_checkpoint(tmp_path / "again").model.shifted


def test_a_file_that_does_not_say_clearly_where_is_refused(tmp_path, make_model):
    save_checkpoint(tmp_path / "model", make_model())
    file = tmp_path / "model" / "config.json"
    values = json.loads(file.read_text())
    values["bothways"]["shifted"] = "yes"
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"bothways\.shifted must be true or false, not 'yes'"):
        load_checkpoint(tmp_path / "model", verify=False)
