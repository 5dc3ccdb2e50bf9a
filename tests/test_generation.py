"""Generation: the tokens of Transformers, the distributions that options promise, and what can go wrong on the way."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from tables import CASES, PAD, PROMPTS, TableSession, V, decode, logits
from tfcore.generation import GenerationOptions, generate, stream
from tfcore.generation.logits import Lengths, changes
from tfcore.generation.sampling import candidates, draw_several, largest, of_at_least_kth
from tfcore.generation.stopping import Stopping

GOLDEN = json.loads((Path(__file__).parent / "golden" / "generation.json").read_text(encoding="utf-8"))
SIGMAS = 5  # of a count of draws: one in two million is further off by chance, and the draws are seeded


def lists(sequences):
    return [sequence.tolist() for sequence in sequences]


def run(prompts, *, session=None, **options):
    return lists(
        generate(session or TableSession(), prompts, GenerationOptions(**options), decode=decode).sequences,
    )


# ---- Transformers' tokens


@pytest.mark.parametrize("name", CASES)
def test_tokens_as_recorded(name):
    """All prompts at once, though they differ in length; recorded one by one."""
    options = GenerationOptions.merged(CASES[name])
    found = generate(TableSession(), PROMPTS, options, decode=decode, return_scores=True)
    want = GOLDEN[name]
    assert lists(found.sequences) == want["sequences"]
    if want["scores"]:
        scores = np.array(want["scores"])
        longest = max(map(len, found.sequences))  # so many roundings are added up
        assert (np.abs(found.scores - scores) <= longest * 2.0**-22 * np.maximum(1, np.abs(scores))).all()


def test_the_recorded_cases_differ():
    """Each option has an effect, or recording it would show nothing."""
    without = GOLDEN["greedy"]["sequences"]
    for name, case in CASES.items():
        if "max_new_tokens" in case and "num_beams" not in case and name != "greedy":
            most = case["max_new_tokens"]
            plain = run(PROMPTS, max_new_tokens=most)
            assert name == "one token" or GOLDEN[name]["sequences"] != plain, name
    assert without == run(PROMPTS, max_new_tokens=12)
    beams = [json.dumps(GOLDEN[name]) for name in CASES if "beams" in name]
    assert len(set(beams)) == len(beams)


@pytest.mark.parametrize("name", [name for name in CASES if "max_length" not in CASES[name]])
def test_prompts_alone_and_in_any_company(name):
    options = GenerationOptions.merged(CASES[name])
    copies = options.num_return_sequences
    for prompts in ([PROMPTS[2]], [PROMPTS[3], PROMPTS[2], PROMPTS[2]]):
        found = lists(generate(TableSession(), prompts, options, decode=decode).sequences)
        want = [GOLDEN[name]["sequences"][i + copies * PROMPTS.index(p)] for p in prompts for i in range(copies)]
        assert found == want


def test_finished_texts_cost_nothing():
    session = TableSession()
    texts = run(PROMPTS, session=session, max_new_tokens=30, eos_token_id=[3, 12, 20])
    added = [len(text) - len(prompt) for text, prompt in zip(texts, PROMPTS, strict=True)]
    assert session.sizes == [sum(n > step for n in added) for step in range(max(added))]


def test_beams_of_finished_prompts_cost_nothing():
    session = TableSession()
    run(PROMPTS, session=session, max_new_tokens=25, num_beams=3, eos_token_id=[3, 12], early_stopping=True)
    assert session.sizes[0] == len(PROMPTS)
    assert set(session.sizes[1:]) <= {3, 6, 9, 12}
    assert sorted(session.sizes[1:], reverse=True) == session.sizes[1:]
    assert session.sizes[-1] < 12


# ---- beside Transformers


class TorchSession:
    """A small torch model that computes every sequence anew at each step, padded on the right."""

    def __init__(self, model, encoded=None):
        self.torch = pytest.importorskip("torch")
        self.model, self.encoded, self.rows = model, encoded, None

    def step(self, tokens):
        torch = self.torch
        rows = [np.empty(0, np.int64)] * len(tokens) if self.rows is None else self.rows
        self.rows = [np.concatenate(pair) for pair in zip(rows, tokens, strict=True)]
        ids = np.zeros((len(self.rows), max(map(len, self.rows))), np.int64)
        for padded, row in zip(ids, self.rows, strict=True):
            padded[: len(row)] = row
        with torch.no_grad():
            if self.encoded is None:
                scores = self.model(torch.tensor(ids)).logits
            else:
                scores = self.model(encoder_outputs=(self.encoded,), decoder_input_ids=torch.tensor(ids)).logits
        return np.stack([scores[i, len(row) - 1].float().numpy() for i, row in enumerate(self.rows)])

    def select(self, parents):
        self.rows = [self.rows[parent] for parent in parents]
        if self.encoded is not None:
            self.encoded = self.encoded[self.torch.tensor(parents)]


def torch_model(kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=V, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.6
        )
        config.eos_token_id = config.bos_token_id = None
        return transformers.GPT2LMHeadModel(config).eval().double()
    if kind == "bart":
        config = transformers.BartConfig(
            vocab_size=V,
            d_model=16,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=64,
            init_std=0.6,
            pad_token_id=1,
            forced_eos_token_id=None,
        )
        return transformers.BartForConditionalGeneration(config).eval()
    config = transformers.T5Config(
        vocab_size=V,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        initializer_factor=3.0,
    )
    return transformers.T5ForConditionalGeneration(config).eval()


LIVE = [
    {},
    {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    {"eos_token_id": [3, 5, 7, 8], "min_new_tokens": 4},
    {"eos_token_id": 3, "bad_words_ids": [[4], [6, 7], [3]], "begin_suppress_tokens": [9, 10, 11]},
    {"num_beams": 3},
    {"num_beams": 4, "num_return_sequences": 4, "eos_token_id": [3, 5, 7], "early_stopping": True},
    {"num_beams": 3, "num_return_sequences": 2, "eos_token_id": [3, 5], "length_penalty": -1.0},
    {"num_beams": 4, "eos_token_id": [3, 5, 7], "early_stopping": "never", "length_penalty": 2.0},
    {
        "num_beams": 2,
        "num_return_sequences": 2,
        "eos_token_id": 3,
        "repetition_penalty": 1.3,
        "renormalize_logits": True,
    },
    {"num_beams": 3, "eos_token_id": 3, "forced_bos_token_id": 10, "forced_eos_token_id": 3, "no_repeat_ngram_size": 1},
]


@pytest.fixture(scope="module", params=["gpt2", "bart", "t5"])
def rival(request):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are too small to be shared
    yield request.param, torch_model(request.param)
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", LIVE, ids=lambda options: " ".join(options) or "greedy")
def test_beside_transformers(rival, options):
    torch = pytest.importorskip("torch")
    kind, model = rival
    options = {"max_new_tokens": 9, "suppress_tokens": [PAD], "eos_token_id": None, **options}
    if kind == "gpt2":
        prompts, session = PROMPTS, TorchSession(model)
        longest = max(map(len, prompts))
        ids = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        extra, given = {}, longest
        options.pop("forced_bos_token_id", None)  # Transformers counts the padding before a prompt of one token
    else:
        ids = torch.tensor([PROMPTS[2], PROMPTS[2][::-1]])
        with torch.no_grad():
            session = TorchSession(model, model.get_encoder()(ids).last_hidden_state)
        mask, extra, given = torch.ones_like(ids), {"decoder_start_token_id": 2}, 1
        prompts = [[2], [2]]
    theirs = model.generate(ids, attention_mask=mask, pad_token_id=PAD, do_sample=False, **extra, **options)
    want = [[token for token in row if token != PAD] for row in theirs[:, given:].tolist()]
    found = run(prompts, session=session, **options)
    starts = [len(prompt) for prompt in prompts for _ in range(len(want) // len(prompts))]
    assert [text[start:] for text, start in zip(found, starts, strict=True)] == want


@pytest.mark.parametrize("size", [3, 50, 5000])
@pytest.mark.parametrize("at_least", [1, 3])
def test_filters_beside_transformers(rng, size, at_least):
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    grid = itertools.product([0, 1, 7, 40, 9000], [0.0, 0.3, 0.9, 1.0], [None, 0.0, 0.05, 0.7], [0.3, 1.0, 2.5])
    for top_k, top_p, min_p, temperature in grid:
        scores = (4 * rng.standard_normal(size)).astype(np.float32)
        theirs = torch.tensor(scores)[None] / temperature
        if top_k:
            theirs = process.TopKLogitsWarper(top_k, min_tokens_to_keep=at_least)(None, theirs)
        if top_p < 1:
            theirs = process.TopPLogitsWarper(top_p, min_tokens_to_keep=at_least)(None, theirs)
        if min_p is not None:
            theirs = process.MinPLogitsWarper(min_p, min_tokens_to_keep=at_least)(None, theirs)
        options = GenerationOptions(do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        tokens, kept = candidates(scores, options, at_least)
        assert tokens.tolist() == np.flatnonzero(np.isfinite(theirs[0].numpy())).tolist()
        want = torch.softmax(theirs[0], -1).numpy()[tokens]
        found = np.exp(kept) / np.exp(kept).sum()
        assert (np.abs(found - want) <= 1e-4 * want + 1e-9).all()


# ---- choosing


def filtered(scores, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The probabilities (V,) that the options promise, by their definitions."""
    scores = scores.astype(np.float64) / temperature
    if top_k:
        scores = np.where(scores >= np.sort(scores)[-top_k:][0], scores, -np.inf)
    p = np.exp(scores - scores.max())
    p /= p.sum()
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]
    p[order[before >= top_p]] = 0
    p[p < min_p * p.max()] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"top_k": 5},
        {"top_k": 0, "temperature": 0.5},
        {"top_k": 0, "top_p": 0.7, "temperature": 2.0},
        {"top_k": 0, "min_p": 0.1},
        {"top_k": 12, "top_p": 0.9, "min_p": 0.02, "temperature": 1.5},
    ],
    ids=lambda options: " ".join(options),
)
def test_draws_follow_the_filtered_distribution(options):
    draws = 2000
    settings = GenerationOptions(do_sample=True, max_new_tokens=1, num_return_sequences=draws, seed=1, **options)
    found = generate(TableSession(), [PROMPTS[1]], settings, return_scores=True)
    tokens = np.array([text[-1] for text in found.sequences])
    p = filtered(logits(np.array(PROMPTS[1])), **options)
    frequency = np.bincount(tokens, minlength=V) / draws
    assert (np.abs(frequency - p) <= SIGMAS * np.sqrt(p * (1 - p) / draws)).all()
    assert (np.abs(found.scores - np.log(p[tokens])) <= 1e-4).all()


def test_draws_of_several_follow_their_distribution(rng):
    p = np.array([0.5, 0.3, 0.15, 0.05])
    draws = 6000
    counts = np.zeros((4, 4))
    for _ in range(draws):
        first, second = draw_several(np.log(p).astype(np.float32), 2, rng)
        counts[first, second] += 1
    want = p[:, None] * p / (1 - p[:, None])
    np.fill_diagonal(want, 0)
    assert (np.abs(counts / draws - want) <= SIGMAS * np.sqrt(want * (1 - want) / draws)).all()


def test_a_seed_repeats_and_a_row_does_not_know_its_neighbours():
    options = {"do_sample": True, "max_new_tokens": 20, "eos_token_id": [3, 12], "temperature": 1.5}
    together = run(PROMPTS, seed=7, **options)
    assert together == run(PROMPTS, seed=7, **options)
    assert together != run(PROMPTS, seed=8, **options)
    assert run(PROMPTS[:2], seed=7, **options) == together[:2]
    assert run([PROMPTS[0], *PROMPTS[:0:-1]], seed=7, **options)[0] == together[0]
    assert run(PROMPTS, seed=7, num_return_sequences=3, **options)[::3] == together
    same = run([PROMPTS[2]] * 3, seed=7, **options)
    assert len({tuple(text) for text in same}) == 3
    assert run(PROMPTS, **options) != run(PROMPTS, **options)


def test_sampled_beams():
    options = {"do_sample": True, "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 12, "eos_token_id": 12}
    together = run(PROMPTS, seed=3, **options)
    assert together == run(PROMPTS, seed=3, **options)
    assert together != run(PROMPTS, seed=4, **options)
    assert run(PROMPTS[:2], seed=3, **options) == together[:6]


def test_sampled_beams_follow_their_distribution():
    """Of one step, the two texts are two draws without repetition, whatever their order."""
    draws = 1500
    options = {"do_sample": True, "num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 1, "top_k": 6, "seed": 2}
    tokens = np.array(run([PROMPTS[1]] * draws, **options))[:, -1].reshape(draws, 2)
    p = filtered(logits(np.array(PROMPTS[1])), top_k=6)
    ordered = p[:, None] * p / (1 - p[:, None])
    want = np.triu(ordered + ordered.T, 1)
    counts = np.zeros((V, V))
    np.add.at(counts, (tokens.min(axis=1), tokens.max(axis=1)), 1)
    assert (np.abs(counts / draws - want) <= SIGMAS * np.sqrt(want * (1 - want) / draws)).all()


@pytest.mark.parametrize("beams", [1, 2])
def test_without_a_seed_numpys_global_state_decides(beams):
    options = {"do_sample": True, "num_beams": beams, "max_new_tokens": 20, "temperature": 1.5}
    np.random.seed(42)  # noqa: NPY002 (as tutorials do)
    first, second = run(PROMPTS, **options), run(PROMPTS, **options)
    assert first != second
    np.random.seed(42)  # noqa: NPY002
    run(PROMPTS, seed=3, **options)  # draws nothing from it, and neither does what is not drawn
    run(PROMPTS, num_beams=beams, max_new_tokens=3)
    assert [run(PROMPTS, **options), run(PROMPTS, **options)] == [first, second]
    np.random.seed(43)  # noqa: NPY002
    assert run(PROMPTS, **options) != first


def test_a_stream_without_a_seed():
    options = GenerationOptions(do_sample=True, max_new_tokens=20, temperature=1.5)
    np.random.seed(42)  # noqa: NPY002
    want = lists(generate(TableSession(), PROMPTS[:1], options).sequences)[0]
    np.random.seed(42)  # noqa: NPY002
    assert [*PROMPTS[0], *(int(step.tokens[0]) for step in stream(TableSession(), PROMPTS[:1], options))] == want


@pytest.mark.parametrize("penalty", [-30.0, -400.0, -1e300])
@pytest.mark.parametrize("early", [True, False, "never"])
def test_beams_of_scores_beyond_any_bound(penalty, early):
    """The power of a text's length outweighs all else: the shortest come first, and none is the bare prompt."""
    options = {"max_new_tokens": 12, "eos_token_id": [3, 12], "min_new_tokens": 4, "suppress_tokens": [PAD]}
    found = run(PROMPTS, num_beams=4, num_return_sequences=4, length_penalty=penalty, early_stopping=early, **options)
    for row, prompt in enumerate(PROMPTS):
        texts = [text[len(prompt) :] for text in found[4 * row : 4 * row + 4]]
        lengths = [len(text) for text in texts]
        assert lengths == sorted(lengths)
        assert all(5 <= len(text) <= 12 and (text[-1] in (3, 12) or len(text) == 12) for text in texts)
        assert len({tuple(text) for text in texts}) == 4
        shortest = [text for text in texts if len(text) == lengths[0]]
        assert shortest == sorted(shortest, key=lambda text: -probability(prompt, text))


def probability(prompt, text):
    """Its logarithm, of a continuation."""
    tokens, total = [*prompt, *text], 0.0
    for place in range(len(prompt), len(tokens)):
        scores = logits(np.array(tokens[:place])).astype(np.float64)
        total += scores[tokens[place]] - np.log(np.exp(scores).sum())
    return total


def test_beams_of_next_to_no_temperature_end():
    """Scores are far below any text's otherwise: real ones all the same, and better than no text."""
    options = GenerationOptions(
        do_sample=True, temperature=1e-300, num_beams=3, num_return_sequences=3, max_new_tokens=5, seed=0
    )
    found = generate(TableSession(), PROMPTS, options, return_scores=True)
    for place, text in enumerate(lists(found.sequences)):
        prompt = PROMPTS[place // 3]
        assert (len(text), text[: len(prompt)]) == (len(prompt) + 5, prompt)
    ranked = found.scores.reshape(4, 3)
    assert (ranked[:, :-1] >= ranked[:, 1:]).all()
    assert len({tuple(text) for text in lists(found.sequences)}) == 12
    assert (found.scores < -1e9).all()


@pytest.mark.parametrize("mode", [{}, {"do_sample": True, "seed": 0}])
def test_fewer_texts_than_beams(mode):
    """The best comes again, and no text that the options rule out."""
    options = {"num_beams": 3, "num_return_sequences": 3, "no_repeat_ngram_size": 1, **mode}
    assert run([[1]], max_new_tokens=1, suppress_tokens=list(range(1, V)), **options) == [[1, 0]] * 3
    best, other, again = run([[5]], max_new_tokens=2, suppress_tokens=[0, *range(3, V)], **options)
    assert sorted([best, other]) == [[5, 1, 2], [5, 2, 1]]
    assert probability([5], best[1:]) > probability([5], other[1:])
    assert again == best


@pytest.mark.parametrize("mode", [{}, {"do_sample": True, "seed": 0}])
def test_what_has_ended_stays_where_no_beam_can_run_on(mode):
    only = [token for token in range(V) if token not in (1, 7)]
    options = {"num_beams": 2, "no_repeat_ngram_size": 1, "eos_token_id": 7, "bad_words_ids": [[1, 7]], **mode}
    assert run([[5]], max_new_tokens=5, suppress_tokens=only, **options) == [[5, 7]]


@pytest.mark.parametrize("mode", [{}, {"do_sample": True, "seed": 0}, {"num_beams": 2}])
def test_repetition_penalties_beyond_float32(mode):
    """They go as far as it does, without a warning."""
    options = {"max_new_tokens": 6, **mode}
    most = run(PROMPTS, repetition_penalty=1e300, **options)
    assert most == run(PROMPTS, repetition_penalty=1e30, **options)
    assert all(len(set(text)) == len(text) for text in most)
    assert run(PROMPTS, repetition_penalty=1e-300, **options) == run(PROMPTS, repetition_penalty=1e-30, **options)


def test_scores_are_log_probabilities():
    prompt = PROMPTS[2]
    found = generate(TableSession(), [prompt], GenerationOptions(max_new_tokens=5), return_scores=True)
    tokens, total = found.sequences[0], 0.0
    for place in range(len(prompt), len(tokens)):
        scores = logits(tokens[:place]).astype(np.float64)
        total += scores[tokens[place]] - np.log(np.exp(scores).sum())
    assert abs(found.scores[0] - total) <= 1e-5
    assert generate(TableSession(), [prompt], GenerationOptions(max_new_tokens=5)).scores is None


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 127, 4096, 5001])
def test_the_largest(rng, size):
    plain = rng.standard_normal(size).astype(np.float32)
    tied = rng.integers(0, 5, size).astype(np.float32)
    holes = np.where(rng.random(size) < 0.7, np.float32(-np.inf), plain)
    for scores, k in itertools.product((plain, tied, holes), (1, 2, 50, size, size + 1)):
        order = np.argsort(-scores, kind="stable")[:k]
        assert np.array_equal(largest(scores, k), order)
        assert np.array_equal(of_at_least_kth(scores, k), np.flatnonzero(scores >= scores[order[-1]]))


def test_what_is_kept_whatever_the_options_say():
    scores = np.array([0, 5, 9, 1, 7], np.float32)
    for options in ({"top_k": 1}, {"top_k": 0, "top_p": 0.1}, {"top_k": 0, "min_p": 0.99}):
        tokens, kept = candidates(scores, GenerationOptions(do_sample=True, **options), 3)
        assert tokens.tolist() == [1, 2, 4]
        assert kept.tolist() == [-4, 0, -2]


def test_a_stop_string_in_a_run_of_bytes():
    """Some tokenizers write a run of single bytes as text only when all of it is: no such run is cut in two."""

    def fallback(tokens):
        try:
            return bytes(tokens).decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(tokens)

    for before, stops in itertools.product(("", "x", "日", "語日", "日" * 9), ("本", "日本", "𝄞")):
        text = list((before + stops).encode())
        stopping = Stopping(GenerationOptions(stop_strings=stops), fallback)
        ends = [stopping.ends(np.array(text[:n]), text[n], 99) for n in range(len(text))]
        assert ends == [False] * (len(text) - 1) + [True]


def test_more_candidates_than_tokens():
    assert len(run([[1]], do_sample=True, top_k=1000, max_new_tokens=3, seed=0)[0]) == 4
    assert len(run([[1]], num_beams=20, num_return_sequences=20, max_new_tokens=2)) == 20


def test_next_to_no_temperature_is_greedy():
    want = run(PROMPTS, max_new_tokens=8)
    assert run(PROMPTS, do_sample=True, temperature=1e-300, max_new_tokens=8, seed=0) == want
    beams = run(PROMPTS, do_sample=True, temperature=1e-300, num_beams=2, max_new_tokens=8, seed=0)
    assert beams == run(PROMPTS, do_sample=True, temperature=1e-300, num_beams=2, max_new_tokens=8, seed=1)
    assert run(PROMPTS, do_sample=True, top_k=1, max_new_tokens=8, seed=0) == want
    assert run(PROMPTS, do_sample=True, top_p=0.0, max_new_tokens=8, seed=0) == want
    assert run(PROMPTS, do_sample=True, min_p=1.0, max_new_tokens=8, seed=0) == want
    assert run(PROMPTS, temperature=0, max_new_tokens=8) == want


def test_no_end_of_temperature_is_equal_chances():
    options = {"do_sample": True, "suppress_tokens": [PAD], "max_new_tokens": 8, "seed": 0}
    for beams in (1, 2):
        found = run(PROMPTS, temperature=1e300, num_beams=beams, **options)
        assert found == run(PROMPTS, temperature=1e30, num_beams=beams, **options)
        assert not any(PAD in text for text in found)


def test_a_token_beyond_the_models_number_is_no_obstacle():
    """Some embeddings know more tokens than the head."""
    prompt = np.array([900, 2, 900])
    scores = logits(np.array([1, 2]))
    options = GenerationOptions(
        repetition_penalty=2.0,
        no_repeat_ngram_size=1,
        suppress_tokens=[700],
        bad_words_ids=[[800]],
        eos_token_id=700,
        min_new_tokens=3,
    )
    altered = scores.copy()
    for change in changes(options):
        change(altered, prompt, Lengths(3, 6, 10))
    assert np.flatnonzero(altered != scores).tolist() == [2]
    with pytest.raises(ValueError, match="forced_bos_token_id is 700, expected a token below 24"):
        run([[1]], forced_bos_token_id=700)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_forced_end_beyond_the_models_number_is_refused_at_once(beams):
    session = TableSession()
    with pytest.raises(ValueError, match="forced_eos_token_id is 700, expected a token below 24"):
        run([[1]], session=session, forced_eos_token_id=[3, 700], max_new_tokens=9, num_beams=beams)
    assert session.sizes == [1]


# ---- streaming


class Listener:
    def __init__(self, fails_at=None):
        self.heard, self.ended, self.fails_at = [], 0, fails_at

    def put(self, value):
        if len(self.heard) == self.fails_at:
            raise RuntimeError("full")
        self.heard.append(value.tolist())

    def end(self):
        self.ended += 1


def test_a_stream_is_what_generate_returns():
    options = GenerationOptions(max_new_tokens=20, eos_token_id=[3, 12])
    texts = [list(prompt) for prompt in PROMPTS]
    for step in stream(TableSession(), PROMPTS, options):
        assert len(step.rows) == len(step.tokens)
        for row, token in zip(step.rows.tolist(), step.tokens.tolist(), strict=True):
            texts[row].append(token)
        step.tokens[:] = 0  # a step is its reader's
    assert texts == lists(generate(TableSession(), PROMPTS, options).sequences)


def test_a_stream_comes_token_by_token_and_can_be_left():
    session = TableSession()
    steps = stream(session, PROMPTS, GenerationOptions(max_new_tokens=20))
    assert session.sizes == []
    next(steps)
    assert session.sizes == [4]
    next(steps)
    steps.close()
    assert session.sizes == [4, 4]
    assert len(session.step([np.array([1])] * 4)) == 4  # the session is as usable as before


def test_streamers():
    listener = Listener()
    options = GenerationOptions(max_new_tokens=6, eos_token_id=12, pad_token_id=PAD)
    texts = lists(generate(TableSession(), PROMPTS[:2], options, streamer=listener).sequences)
    assert texts == [[5, 12], [1, 2, 3, 16, 3, 16, 3, 16, 3]]
    assert listener.heard[0] == [[PAD, PAD, 5], [1, 2, 3]]
    assert listener.heard[1:] == [[12, 16], [PAD, 3], [PAD, 16], [PAD, 3], [PAD, 16], [PAD, 3]]
    assert listener.ended == 1
    heard = []
    generate(TableSession(), PROMPTS[:1], GenerationOptions(max_new_tokens=3), streamer=heard.append)
    assert [tokens.tolist() for tokens in heard] == [[12], [14], [7]]


@pytest.mark.filterwarnings("ignore")
def test_transformers_own_streamer():
    streamers = pytest.importorskip("transformers.generation.streamers")

    class Letters:
        def decode(self, tokens, **_):
            return decode(tokens)

    said = []
    streamer = streamers.TextStreamer(Letters(), skip_prompt=True)
    streamer.on_finalized_text = lambda text, stream_end=False: said.append(text)
    text = generate(TableSession(), PROMPTS[2:3], GenerationOptions(max_new_tokens=8), streamer=streamer).sequences[0]
    assert "".join(said) == decode(text[len(PROMPTS[2]) :])


def test_a_streamer_that_raises_is_still_told_the_end():
    for step in (0, 3):
        listener = Listener(fails_at=step)
        with pytest.raises(RuntimeError, match="full"):
            generate(TableSession(), PROMPTS, GenerationOptions(max_new_tokens=6), streamer=listener)
        assert listener.ended == 1
        assert len(listener.heard) == step


def test_control_c_between_tokens():
    class Interrupted(TableSession):
        def step(self, tokens):
            if len(self.sizes) == 3:
                raise KeyboardInterrupt
            return super().step(tokens)

    listener, session = Listener(), Interrupted()
    options = GenerationOptions(max_new_tokens=9)
    with pytest.raises(KeyboardInterrupt):
        generate(session, PROMPTS[:1], options, streamer=listener)
    assert listener.ended == 1
    want = run(PROMPTS[:1], max_new_tokens=9)[0]
    assert [token for tokens in listener.heard[1:] for token in tokens] == want[1:4]
    session.sizes.clear()
    assert session.step([np.array(want[3:4])]).argmax() == want[4]  # goes on from where it stopped
    with pytest.raises(KeyboardInterrupt):
        run(PROMPTS, session=Interrupted(), num_beams=2)


# ---- options


def test_a_checkpoint_and_its_caller():
    checkpoint = {
        "_from_model_config": True,
        "transformers_version": "5.0.0",
        "bos_token_id": 0,
        "eos_token_id": [2, 3],
        "max_length": 142,
        "num_beams": 4,
        "length_penalty": 2.0,
        "early_stopping": True,
        "do_sample": None,
        "typical_p": 1.0,
    }
    options = GenerationOptions.merged(checkpoint, num_beams=1, seed=np.int64(5))
    assert (options.num_beams, options.length_penalty, options.early_stopping, options.seed) == (1, 2.0, True, 5)
    assert options.end_tokens == (2, 3)
    assert options.do_sample is False
    assert GenerationOptions.merged(checkpoint, eos_token_id=None).end_tokens == ()
    assert GenerationOptions.merged(checkpoint, eos_token_id=7).end_tokens == (7,)
    assert GenerationOptions.merged(checkpoint).limit(10) == 142
    assert GenerationOptions.merged(checkpoint, max_new_tokens=5).limit(10) == 15
    assert GenerationOptions.merged({"max_new_tokens": 5}, max_length=30).limit(10) == 30
    assert GenerationOptions.merged({"max_new_tokens": 5, "min_new_tokens": 2}, min_length=12).least(10) == 12
    assert GenerationOptions.merged(None).limit(10) == 30
    assert GenerationOptions.merged(None, top_k=None, top_p=None, temperature=None) == GenerationOptions(top_k=0)


def test_settings_that_do_not_exist():
    with pytest.raises(TypeError, match=r"no setting max_token, top; the settings are max_new_tokens, .*stop_strings"):
        GenerationOptions.merged({}, max_token=3, top=1)
    with pytest.raises(ValueError, match=r"typical_p is 0.9, expected 1.0: it is not implemented"):
        GenerationOptions.merged({"typical_p": 0.9})
    with pytest.raises(ValueError, match="num_beam_groups is 2, expected 1"):
        GenerationOptions.merged(None, num_beam_groups=2)
    assert GenerationOptions.merged({"typical_p": 0.9}, typical_p=np.float64(1.0)) == GenerationOptions()
    for name in ("logits_processor", "sequence_bias"):
        with pytest.raises(
            ValueError, match=rf"^{name} is array\(\[0\., 0\., 0\.\]\), expected .*: it is not implemented"
        ):
            GenerationOptions.merged(None, **{name: np.zeros(3)})


def test_ids_of_numpy_and_torch():
    ids = [np.int64(5), np.array(5), np.uint8(5)]
    several = [np.array([5, 6]), [np.int32(5), np.array(6)], {np.int64(5), 6}]
    words = [np.array([[5, 6]]), [np.array([5, 6])], [[np.int64(5), 6]]]
    torch = pytest.importorskip("torch")
    ids.append(torch.tensor(5))
    several += [torch.tensor([5, 6]), (torch.tensor(5), 6)]
    words += [torch.tensor([[5, 6]]), [torch.tensor([5, 6])]]
    for name in ("pad_token_id", "bos_token_id", "decoder_start_token_id", "forced_bos_token_id"):
        assert [getattr(GenerationOptions(**{name: one}), name) for one in ids] == [5] * len(ids)
    for name in ("eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"):
        assert [getattr(GenerationOptions(**{name: one}), name) for one in ids] == [(5,)] * len(ids)
        assert [sorted(getattr(GenerationOptions(**{name: some}), name)) for some in several] == [[5, 6]] * len(several)
    assert [GenerationOptions(bad_words_ids=some).bad_words_ids for some in words] == [((5, 6),)] * len(words)
    for wrong in (torch.tensor(5.0), torch.tensor(True), torch.tensor([[5]]), np.array([5.0])):
        with pytest.raises(TypeError, match=r"^eos_token_id is .*, expected a token id or several"):
            GenerationOptions(eos_token_id=wrong)
    with pytest.raises(ValueError, match=r"^pad_token_id is tensor\(-1\), expected a token id"):
        GenerationOptions(pad_token_id=torch.tensor(-1))
    with pytest.raises(TypeError, match=r"^pad_token_id is tensor\(\[5\]\), expected a token id"):
        GenerationOptions(pad_token_id=torch.tensor([5]))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("max_new_tokens", -1, "a non-negative integer"),
        ("max_new_tokens", 10**37, r"a non-negative integer up to 10\*\*36$"),
        ("max_length", 0, "a positive integer"),
        ("max_length", 10**37, r"a positive integer up to 10\*\*36$"),
        ("seed", -1, "a non-negative integer$"),
        ("temperature", -0.5, "a non-negative number"),
        ("temperature", float("nan"), "a non-negative number"),
        ("top_k", -1, "a non-negative integer"),
        ("top_p", 1.01, "a number from 0 to 1"),
        ("min_p", -0.1, "a number from 0 to 1"),
        ("repetition_penalty", 0.0, "a positive number"),
        ("num_beams", 0, "a positive integer"),
        ("num_beams", 65537, "a positive integer up to 65536$"),
        ("num_beams", 10**30, "a positive integer up to 65536$"),
        ("length_penalty", float("inf"), "a finite number"),
        ("early_stopping", "always", "True, False or 'never'"),
        ("eos_token_id", -1, "a token id or several"),
        ("eos_token_id", [5] * 50 + [-1], "a token id or several"),
        ("pad_token_id", -1, "a token id"),
        ("bad_words_ids", [[]], "a list of lists of token ids, none empty"),
        ("bad_words_ids", [[2**70]], "a list of lists of token ids, none empty"),
        ("stop_strings", ["a", ""], "a text or several, none empty"),
        ("stop_strings", "\ud800", "a text or several, none empty or with a lone surrogate"),
        ("num_return_sequences", 65537, "a positive integer up to 65536$"),
        ("num_return_sequences", 2, "1"),
    ],
)
def test_values_out_of_range(name, value, wanted):
    with pytest.raises(ValueError, match=f"^{name} is .*, expected {wanted}"):
        GenerationOptions(**{name: value})


def test_a_number_that_python_does_not_write():
    for value in (10**5000, -(10**5000)):
        with pytest.raises(
            ValueError, match=r"^max_new_tokens is a number of thousands of digits, expected a non-negative"
        ):
            GenerationOptions(max_new_tokens=value)


def test_as_much_as_there_may_be():
    options = GenerationOptions(num_beams=65536, num_return_sequences=65536, stop_strings="\U0001f600")
    assert (options.num_beams, options.num_return_sequences) == (65536, 65536)
    long = {"max_new_tokens": 10**36, "eos_token_id": [3, 12]}
    text = run(PROMPTS[:1], **long)[0]
    assert text == run(PROMPTS[:1], **long | {"max_new_tokens": 500})[0]
    assert text[-1] in (3, 12)
    beams = {"num_beams": 2, "early_stopping": "never", "length_penalty": -1.0}
    assert run(PROMPTS, **long, **beams) == run(PROMPTS, **long | {"max_new_tokens": 500}, **beams)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 2.0),
        ("max_new_tokens", True),
        ("do_sample", 1),
        ("top_p", "0.9"),
        ("eos_token_id", "</s>"),
        ("eos_token_id", [1, "2"]),
        ("bad_words_ids", [3]),
        ("bad_words_ids", np.array([3])),
        ("num_beams", np.zeros(3)),
        ("stop_strings", [3]),
        ("seed", 1.5),
    ],
)
def test_values_of_another_kind(name, value):
    with pytest.raises(TypeError, match=f"^{name} is .*, expected "):
        GenerationOptions(**{name: value})


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match="num_return_sequences is 3, expected at most num_beams, 2"):
        GenerationOptions(num_beams=2, num_return_sequences=3)
    with pytest.raises(ValueError, match=r"temperature is .*, expected a positive number"):
        GenerationOptions(do_sample=True, temperature=0)
    with pytest.raises(ValueError, match="streamer with num_beams 2"):
        generate(TableSession(), PROMPTS, GenerationOptions(num_beams=2), streamer=Listener())
    with pytest.raises(TypeError, match="streamer is of int, expected a function or an object with put and end"):
        generate(TableSession(), PROMPTS, GenerationOptions(), streamer=3)
    with pytest.raises(ValueError, match="num_beams is 2, expected 1"):
        stream(TableSession(), PROMPTS, GenerationOptions(num_beams=2))
    with pytest.raises(ValueError, match="stop_strings are looked for in the text: pass tokenizer="):
        generate(TableSession(), PROMPTS, GenerationOptions(stop_strings="x"))


# ---- hostile


@pytest.mark.parametrize("mode", [{}, {"do_sample": True}, {"num_beams": 2}, {"num_beams": 2, "do_sample": True}])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "is nan, expected a finite"), (np.inf, "expected a finite"), (-np.inf, "no token|expected a finite")],
)
def test_logits_that_are_no_numbers(mode, value, message):
    def broken(tokens):
        scores = logits(tokens)
        if len(tokens) == 5:
            scores[slice(None) if value == -np.inf else 7] = value
        return scores

    with pytest.raises(ValueError, match=f"at place 5.*({message})|({message}).*at place 5|place 5 is"):
        run([[1, 2, 3]], session=TableSession(broken), max_new_tokens=6, **mode)


@pytest.mark.parametrize("mode", [{}, {"do_sample": True}, {"num_beams": 2}, {"num_beams": 2, "do_sample": True}])
def test_nothing_left_to_choose(mode):
    with pytest.raises(ValueError, match="no token is possible at place 1"):
        run([[1]], suppress_tokens=list(range(V)), max_new_tokens=3, **mode)
    few = run([[1]], suppress_tokens=list(range(2, V)), max_new_tokens=4, **mode)
    assert set(few[0]) <= {0, 1}


@pytest.mark.parametrize("mode", [{}, {"do_sample": True, "seed": 1}, {"num_beams": 2}])
def test_logits_as_large_as_float32_goes(mode):
    def wide(tokens):
        return np.where(np.arange(V) == (tokens[-1] + 1) % V, np.float32(3e38), np.float32(-3e38))

    assert run([[1]], session=TableSession(wide), max_new_tokens=3, repetition_penalty=2.0, **mode) == [[1, 2, 3, 4]]


def test_nothing_to_add():
    session = TableSession()
    for mode in ({}, {"do_sample": True, "seed": 0}, {"num_beams": 2}):
        assert run(PROMPTS, session=session, max_new_tokens=0, **mode) == PROMPTS
    assert list(stream(session, PROMPTS, GenerationOptions(max_new_tokens=0))) == []
    assert session.sizes == []
    assert run([], max_new_tokens=3) == run([], num_beams=2) == []


def test_an_end_token_in_the_prompt_ends_nothing():
    assert run([[12, 5, 3]], eos_token_id=[3, 5], max_new_tokens=1)[0][:3] == [12, 5, 3]
    assert len(run([[12, 3]], eos_token_id=3, max_new_tokens=4, suppress_tokens=[3])[0]) == 6
    stop = run([[13, 1]], stop_strings="stop", max_new_tokens=4)
    assert len(stop[0]) == 6


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ([[1], []], ValueError, r"prompts\[1\] has shape \(0,\)"),
        ([[[1]]], ValueError, r"prompts\[0\] has shape \(1, 1\)"),
        ([5], ValueError, r"prompts\[0\] has shape \(\)"),
        ([[1.5]], TypeError, r"prompts\[0\] is of float64, expected integers"),
        ([[3, -1]], ValueError, r"prompts\[0\] holds token -1"),
    ],
)
def test_prompts_that_are_none(prompts, error, message):
    with pytest.raises(error, match=message):
        run(prompts)


def test_a_prompt_that_is_too_long():
    for beams in (1, 2):
        with pytest.raises(ValueError, match="max_length is 4, expected more than the 6 of a prompt"):
            run(PROMPTS, max_length=4, num_beams=beams)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (np.zeros((2, V), np.float64), TypeError),
        ([[0.0] * V], TypeError),
        (np.zeros((1, V), np.float32), ValueError),
        (np.zeros((2, 1, V), np.float32), ValueError),
        (np.zeros((2, 0), np.float32), ValueError),
    ],
)
def test_sessions_that_answer_otherwise(answer, error):
    class Liar(TableSession):
        def step(self, tokens):
            return answer

    for beams in (1, 2):
        with pytest.raises(error, match="the session's step returned"):
            run([[1], [2]], session=Liar(), num_beams=beams)


def test_logits_that_cannot_be_written_to():
    class ReadOnly(TableSession):
        def step(self, tokens):
            scores = super().step(tokens)
            scores.flags.writeable = False
            return scores

    assert run(PROMPTS, session=ReadOnly(), **CASES["repetition"]) == GOLDEN["repetition"]["sequences"]
