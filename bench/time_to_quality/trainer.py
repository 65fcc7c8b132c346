"""Hugging Face's Trainer as its users run it, in a process of its own: ``python -m time_to_quality.trainer JOB``.

What is not named here is at its default: AdamW (fused), 8 sequences a step, a linear schedule without warm-up, gradients
clipped at 1, dropout 0.1. The text is handed over as tensors, which is quicker than the tables of ``datasets``.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

MANY = 10**7


class Blocks(Dataset[dict[str, Any]]):
    """All text end to end, cut into blocks; of a BERT's, what is special is told."""

    def __init__(self, file: str, length: int, special: list[int]) -> None:
        self.ids, self.length, self.special = np.memmap(file, dtype="<u2", mode="r"), length, special

    def __len__(self) -> int:
        return len(self.ids) // self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = self.ids[index * self.length : (index + 1) * self.length].astype(np.int64)
        if self.special:
            return {"input_ids": ids, "special_tokens_mask": np.isin(ids, self.special).astype(np.int64)}
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(ids)}


class Lines(Dataset[dict[str, Any]]):
    """``[CLS] sentence [SEP]``, cut at a length."""

    def __init__(self, file: str, length: int, frame: tuple[int, int]) -> None:
        self.ids, self.starts = np.memmap(file, dtype="<u2", mode="r"), np.load(Path(file).with_suffix(".npy"))
        self.length, self.frame = length, frame

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, stop = int(self.starts[index]), int(self.starts[index + 1])
        inside = self.ids[start : min(stop, start + self.length - 2)].astype(np.int64)
        ids = np.concatenate([[self.frame[0]], inside, [self.frame[1]]])
        special = np.zeros(len(ids), np.int64)
        special[[0, -1]] = 1
        return {"input_ids": ids, "special_tokens_mask": special}


class Counting:
    """A collator that counts the real tokens and the sequences of each batch; the last one may be fetched and never used."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator
        self.tokens: list[int] = []
        self.sequences: list[int] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        self.tokens.append(sum(len(example["input_ids"]) for example in examples))
        self.sequences.append(len(examples))
        return self.collator(examples)


class Clock(TrainerCallback):
    """Takes the time of training, and ends a trial."""

    def __init__(self, trial: float | None) -> None:
        self.trial, self.steps = trial, 0
        self.start = self.settled = self.end = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
        self.end, self.steps = time.perf_counter(), state.global_step
        if self.steps == 2:  # the first steps also warm up
            self.settled = self.end
        if self.trial is not None and self.steps > 5 and self.end - self.settled > self.trial:
            control.should_training_stop = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.end = time.perf_counter()


def make_model(job: dict[str, Any]) -> PreTrainedModel:
    """Return fresh weights."""
    shape, dropout = job["shape"], job["dropout"]
    if job["family"] == "gpt":
        config = GPT2Config(
            vocab_size=shape["vocab_size"],
            n_positions=job["length"],
            n_embd=shape["hidden_size"],
            n_layer=shape["layers"],
            n_head=shape["heads"],
            bos_token_id=job["bos"],
            eos_token_id=job["bos"],
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout),
        )
        return GPT2LMHeadModel(config)
    config = BertConfig(
        vocab_size=shape["vocab_size"],
        max_position_embeddings=job["length"],
        hidden_size=shape["hidden_size"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=4 * shape["hidden_size"],
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForMaskedLM(config)


def make_data(job: dict[str, Any]) -> tuple[Dataset[dict[str, Any]], Any]:
    """Return the examples and what makes batches of them."""
    if job["family"] == "gpt":
        return Blocks(job["text"], job["length"], []), default_data_collator
    special = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=job["tokenizer"], **special)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    frame = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    if job["lines"]:
        return Lines(job["text"], job["length"], frame), collator
    return Blocks(job["text"], job["length"], list(frame)), collator


def train(job: dict[str, Any], steps: int, trial: float | None) -> tuple[PreTrainedModel, Clock, Counting]:
    """Train fresh weights for some steps, or as long as a trial takes."""
    data, collator = make_data(job)
    counting, clock = Counting(collator), Clock(trial)
    torch.manual_seed(job["seed"])
    arguments = TrainingArguments(
        output_dir=str(Path(job["out"]) / "trainer"),
        max_steps=steps,
        learning_rate=job["learning_rate"],
        warmup_steps=int(job["warmup"] * steps),
        bf16=job["precision"] == "bf16",
        seed=job["seed"],
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = make_model(job)
    trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=counting, callbacks=[clock])
    trainer.train()
    return model, clock, counting


def main() -> None:
    """Train as a job says: a trial tells how many steps fit the time, and the schedule is made for these."""
    job = json.loads(Path(sys.argv[1]).read_text())
    _, trial, _ = train(job, MANY, job["trial_seconds"])
    seconds_per_step = (trial.end - trial.settled) / (trial.steps - 2)
    steps = max(2, round(job["seconds"] / seconds_per_step))
    model, clock, counting = train(job, steps, None)
    model.save_pretrained(Path(job["out"]) / "model")
    done = {
        "steps": steps,
        "seconds": clock.end - clock.start,
        "trial_seconds": trial.end - trial.start,
        "tokens": sum(counting.tokens[:steps]),
        "sequences": sum(counting.sequences[:steps]),
        "parameters": model.num_parameters(),
        "model": str(Path(job["out"]) / "model"),
    }
    (Path(job["out"]) / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main()
