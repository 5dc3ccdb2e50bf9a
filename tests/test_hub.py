"""Names on a hub: a small one served on loopback, asked by `huggingface_hub` in a process with a cache of its own."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from checkpoints import write_bert
from embedding_checkpoints import RERANKERS, write_case
from gguf_files import METADATA, model, write_gguf
from tfcore import AutoModel, AutoTokenizer

NAME = "someone/small-bert"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL_FILES = {"config.json", "model.safetensors"}
TOKENIZER_FILES = {"config.json", "vocab.txt", "tokenizer_config.json"}
OTHER_FILES = {"README.md", "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5"}


class Hub(ThreadingHTTPServer):
    """Serves one repository as the hub does, and remembers which of its files were fetched."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.name = NAME
        self.fetched = []
        self.asked_by = set()  # what readers called themselves
        self.refusals = {}  # of a path's beginning: the status and the hub's code for it
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked_by.add(self.headers["Authorization"])
        path, name = unquote(urlsplit(self.path).path), self.server.name
        refusal = next((answer for start, answer in self.server.refusals.items() if path.startswith(start)), None)
        if refusal:
            self.send_error_code(*refusal)
        elif path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
            self.send_json(self.repository())
        elif path.startswith(f"/api/models/{name}/revision/"):
            self.send_error_code(404, "RevisionNotFound")
        elif path.startswith(f"/api/models/{name}/tree/"):
            self.send_json(self.tree())
        elif path.startswith(f"/{name}/resolve/"):
            self.send_file(path.partition("/resolve/")[2].partition("/")[2])
        else:
            self.send_error_code(404, "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def repository(self):
        name = self.server.name
        return {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.names()]}

    def tree(self):
        return [
            {"type": "file", "path": name, "size": len(self.read(name)), "oid": self.etag(name)}
            for name in self.names()
        ]

    def names(self):
        folder = self.server.folder
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def read(self, name):
        return (self.server.folder / name).read_bytes()

    def etag(self, name):
        return hashlib.sha1(self.read(name)).hexdigest()

    def send_json(self, value):
        self.send_bytes(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_file(self, name):
        if name not in self.names():
            self.send_error_code(404, "EntryNotFound")
            return
        if self.command == "GET":
            self.server.fetched.append(name)
        self.send_bytes(self.read(name), {"ETag": f'"{self.etag(name)}"', "X-Repo-Commit": COMMIT})

    def send_bytes(self, content, headers):
        self.send_response(200)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def send_error_code(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tmp_path):
    folder = write_bert(tmp_path / "repository")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24}))
    for name in OTHER_FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not to be fetched")
    with Hub(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def silent():
    """The address of a hub that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def ask(tmp_path, hub):
    """Runs code in a process whose hub is the small one, with a cache of its own. Returns what it printed."""

    def run(code, *, offline=False, endpoint=None, home=tmp_path / "home"):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        settings = {
            "HF_ENDPOINT": endpoint or hub.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_ETAG_TIMEOUT": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", "from tfcore import AutoModel, AutoTokenizer, SentenceEncoder\n" + code],
            env=inherited | settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


EMBED = f"""
import json
inputs = AutoTokenizer.from_pretrained("{NAME}")("the two cu?", return_tensors="np")
print(json.dumps(AutoModel.from_pretrained("{NAME}")(**inputs).last_hidden_state.tolist()))
"""
FAIL = """
import json
try:
    AutoModel.from_pretrained({name!r}{more})
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def from_folder(folder):
    inputs = AutoTokenizer.from_pretrained(folder)("the two cu?", return_tensors="np")
    return AutoModel.from_pretrained(folder)(**inputs).last_hidden_state


def test_from_the_hub_then_from_the_cache(hub, ask):
    want = from_folder(hub.folder)
    assert np.array_equal(np.array(ask(EMBED), np.float32), want)
    assert set(hub.fetched) == MODEL_FILES | TOKENIZER_FILES
    assert len(hub.fetched) == len(set(hub.fetched)), "nothing is fetched twice"
    hub.fetched.clear()
    assert np.array_equal(np.array(ask(EMBED), np.float32), want)
    assert np.array_equal(np.array(ask(EMBED, offline=True), np.float32), want)
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("opened", "cache"), [("AutoModel.from_pretrained", "cache_dir"), ("SentenceEncoder", "cache_folder")]
)
def test_a_cache_of_its_own_that_is_asked_alone(hub, ask, tmp_path, opened, cache):
    code = f"{opened}({NAME!r}, {cache}={str(tmp_path / 'cache')!r}, token='mine'{{}}); print('null')"
    ask(code.format(""))
    assert "model.safetensors" in hub.fetched
    assert hub.asked_by == {"Bearer mine"}
    assert not (tmp_path / "home" / "hub").exists()
    hub.asked_by.clear()
    ask(code.format(", local_files_only=True"))
    assert not hub.asked_by


def test_a_checkpoint_in_a_subfolder(hub, ask):
    want = from_folder(hub.folder)
    inner = hub.folder / "of" / "several"
    inner.mkdir(parents=True)
    for name in MODEL_FILES | TOKENIZER_FILES:
        (hub.folder / name).rename(inner / name)
    given = ', subfolder="of/several")'
    code = EMBED.replace(f'"{NAME}")', f'"{NAME}"' + given)
    assert np.array_equal(np.array(ask(code), np.float32), want)
    assert set(hub.fetched) == {f"of/several/{name}" for name in MODEL_FILES | TOKENIZER_FILES}
    assert np.array_equal(np.array(ask(code.replace(NAME, str(hub.folder))), np.float32), want)


def test_one_gguf_file_of_several(hub, ask):
    for name in ("small.gguf", "large.gguf"):
        write_gguf(hub.folder / name, METADATA["llama"], model("llama")[1])
    code = f"""
import json
model = AutoModel.from_pretrained({NAME!r}, gguf_file="small.gguf")
print(json.dumps(model([[1, 2, 3]]).last_hidden_state.tolist()))
"""
    want = AutoModel.from_pretrained(hub.folder / "small.gguf")([[1, 2, 3]]).last_hidden_state
    assert np.array_equal(np.array(ask(code), np.float32), want)
    assert hub.fetched == ["small.gguf"]
    assert np.array_equal(np.array(ask(code.replace(NAME, str(hub.folder))), np.float32), want)


def test_a_tokenizer_from_a_cache_of_its_own(hub, ask, tmp_path):
    code = f"AutoTokenizer.from_pretrained({NAME!r}, cache_dir={str(tmp_path / 'cache')!r}{{}}); print('null')"
    ask(code.format(", token='mine'"))
    hub.asked_by.clear()
    ask(code.format(", local_files_only=True"))
    assert not hub.asked_by


def test_a_pickle_keeps_how_a_name_is_looked_up_but_no_token(hub, ask, tmp_path):
    encoder = f"SentenceEncoder({NAME!r}, cache_folder={str(tmp_path / 'cache')!r}, token='mine')"
    kept = ask(f"import json, pickle; print(json.dumps(pickle.dumps({encoder}).hex()))")
    assert b"mine" not in bytes.fromhex(kept)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    ask(f"import pickle; pickle.loads(bytes.fromhex({kept!r})).encode('the'); print('null')")
    assert (tmp_path / "cache").is_dir()


def test_the_cache_serves_when_the_hub_does_not_answer(hub, ask):
    want = np.array(ask(EMBED), np.float32)
    got = ask(EMBED, endpoint="http://127.0.0.1:9")  # the discard port: nobody listens
    assert np.array_equal(np.array(got, np.float32), want)


def test_the_cache_serves_when_the_hub_is_silent(hub, silent, ask):
    want = np.array(ask(EMBED), np.float32)
    assert np.array_equal(np.array(ask(EMBED, endpoint=silent), np.float32), want)


def test_the_cache_serves_when_the_hub_is_out_of_order(hub, ask):
    want = np.array(ask(EMBED), np.float32)
    hub.refusals = {"/": (500, "")}
    assert np.array_equal(np.array(ask(EMBED), np.float32), want)


def test_a_tokenizer_fetches_no_weights(hub, ask):
    ask(f'print(len(AutoTokenizer.from_pretrained("{NAME}")))')
    assert set(hub.fetched) == TOKENIZER_FILES


def test_a_sentence_encoder_fetches_its_modules_too(hub, ask):
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (hub.folder / "modules.json").write_text(json.dumps(modules))
    (hub.folder / "1_Pooling").mkdir()
    (hub.folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "max"}))
    (hub.folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    got = ask(f'print(SentenceEncoder("{NAME}").encode("the two cu?").tolist())')
    inputs = AutoTokenizer.from_pretrained(hub.folder)("the two cu?", max_length=4, return_tensors="np")
    want = AutoModel.from_pretrained(hub.folder)(**inputs).last_hidden_state[0].max(axis=0)
    assert np.array_equal(np.array(got, np.float32), want)
    fetched = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"}
    assert set(hub.fetched) == MODEL_FILES | TOKENIZER_FILES | fetched


@pytest.mark.parametrize(
    ("opened", "name"),
    [
        ("SentenceEncoder", "sentence-transformers/small-bert"),
        ("SentenceEncoder", "small-bert"),
        ("CrossEncoder", "cross-encoder/small-bert"),
    ],
)
def test_a_name_without_an_owner(hub, ask, opened, name):
    write_case(hub.folder, RERANKERS["reranker"], labels=1)
    hub.name = name
    code = f'import json, tfcore; print(json.dumps(tfcore.{opened}("small-bert").folder.as_posix()))'
    assert f"models--{name.replace('/', '--')}/" in ask(code)
    hub.asked_by.clear()
    assert f"models--{name.replace('/', '--')}/" in ask(code, offline=True)
    assert not hub.asked_by
    hub.name = "someone/else"
    assert f"models--{name.replace('/', '--')}/" in ask(code, endpoint="http://127.0.0.1:9")


def test_shards_are_fetched(hub, ask):
    want = from_folder(hub.folder)
    shard = "model-00001-of-00001.safetensors"
    (hub.folder / "model.safetensors").rename(hub.folder / shard)
    header_bytes = (hub.folder / shard).read_bytes()
    header = json.loads(header_bytes[8 : 8 + int.from_bytes(header_bytes[:8], "little")])
    index = {"weight_map": {name: shard for name in header if name != "__metadata__"}}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert np.array_equal(np.array(ask(EMBED), np.float32), want)
    assert shard in hub.fetched


def test_a_repository_of_pickles_says_how_to_convert(hub, ask):
    (hub.folder / "model.safetensors").unlink()
    kind, message = ask(FAIL.format(name=NAME, more=""))
    assert kind == "FileNotFoundError"
    assert "holds no model.safetensors" in message
    assert "save_pretrained" in message
    assert not OTHER_FILES & set(hub.fetched)


@pytest.mark.parametrize(
    ("name", "more", "offline", "kind", "message"),
    [
        (
            "someone/else",
            "",
            False,
            "FileNotFoundError",
            "no folder 'someone/else', and the hub ({hub}) has no such name",
        ),
        ("someone/else", "", True, "FileNotFoundError", "HF_HUB_OFFLINE is set"),
        (NAME, ", revision='v9'", False, "FileNotFoundError", "has no such name at revision 'v9'"),
        (NAME, ", local_files_only=True", False, "FileNotFoundError", "local_files_only is True: leave it out"),
        (NAME, ", cache_dir=1", False, "TypeError", "cache_dir is int, expected a folder"),
        (NAME, ", token=1", False, "TypeError", "token is int, expected a string or a bool"),
        (NAME, ", local_files_only='no'", False, "TypeError", "local_files_only is str, expected a bool"),
        (NAME, ", subfolder=None", False, "TypeError", "subfolder is NoneType, expected a string"),
        (NAME, ", subfolder='deep'", False, "FileNotFoundError", "someone/small-bert has no folder deep"),
        (NAME, ", gguf_file='x.gguf'", False, "FileNotFoundError", "someone/small-bert has no file x.gguf"),
        ("no such name!", "", False, "ValueError", "'no such name!' is neither a folder nor a hub name"),
        ("./nowhere", "", False, "FileNotFoundError", "nowhere: no such folder"),
        ("x" * 300, "", False, "ValueError", "xxx' is neither a folder nor a hub name"),
        ("a/b/c", "", False, "FileNotFoundError", "a/b/c: no such folder"),
        ("~nosuchuser/x", "", False, "FileNotFoundError", "~nosuchuser/x: no such folder"),
        ("model.gguf", "", False, "FileNotFoundError", "model.gguf: no such file"),
    ],
)
def test_a_name_that_is_not_there(hub, ask, name, more, offline, kind, message):
    got_kind, got_message = ask(FAIL.format(name=name, more=more), offline=offline)
    assert got_kind == kind
    assert message.format(hub=hub.url) in got_message
    assert hub.fetched == []


def test_no_hub_and_nothing_in_the_cache(ask):
    kind, message = ask(FAIL.format(name=NAME, more=""), endpoint="http://127.0.0.1:9")
    assert kind == "ConnectionError"
    assert "the hub (http://127.0.0.1:9) does not answer" in message


def test_a_silent_hub_and_nothing_in_the_cache(silent, ask):
    kind, message = ask(FAIL.format(name=NAME, more=""), endpoint=silent)
    assert kind == "ConnectionError"
    assert f"the hub ({silent}) does not answer" in message


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (401, "RepoNotFound", "FileNotFoundError", "or it is private (then set HF_TOKEN): it answers 401"),
        (401, "GatedRepo", "PermissionError", "answers 401: set HF_TOKEN"),
        (401, "", "PermissionError", "answers 401: set HF_TOKEN"),
        (403, "", "PermissionError", "answers 403: set HF_TOKEN"),
        (404, "", "OSError", "answers 404: try again later, or check HF_ENDPOINT"),
        (429, "", "OSError", "answers 429: try again later"),
        (500, "", "OSError", "answers 500: try again later"),
    ],
)
def test_a_hub_that_refuses(hub, ask, status, code, kind, message):
    hub.refusals = {"/api/": (status, code)}
    got_kind, got_message = ask(FAIL.format(name=NAME, more=""))
    assert got_kind == kind
    assert f"the hub ({hub.url})" in got_message
    assert message in got_message


def test_a_hub_that_refuses_the_weights_leaves_a_part_in_the_cache(hub, ask):
    hub.refusals = {f"/{NAME}/resolve/{COMMIT}/model.safetensors": (403, "GatedRepo")}
    kind, message = ask(FAIL.format(name=NAME, more=""))
    assert kind == "PermissionError"
    assert "answers 403: set HF_TOKEN" in message
    assert "config.json" in hub.fetched
    kind, message = ask(FAIL.format(name=NAME, more=""), offline=True)
    assert kind == "FileNotFoundError"
    incomplete = "does not hold all of its files, and HF_HUB_OFFLINE is set"
    assert incomplete in message or "holds no model.safetensors" in message, (
        "older libraries do not know what is missing"
    )


def test_a_cache_that_cannot_be_written_to(tmp_path, ask):
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    kind, message = ask(FAIL.format(name=NAME, more=""), home=home)
    assert kind == "NotADirectoryError"
    assert str(home) in message
    assert "set HF_HOME to a folder that can be written to" in message
    kind, message = ask(FAIL.format(name=NAME, more=f", cache_dir={str(home)!r}"))
    assert kind == "NotADirectoryError"
    assert "set cache_dir to a folder" in message
