#!/usr/bin/env python3
"""A stand-in for the APIs of Anthropic and OpenAI in their wire formats: one process, no model.

usage: llm.py [--port N] [--key KEY] [--log FILE.jsonl] [--while-stdin]

Prints {"port": N} when it listens (on 127.0.0.1). POST /v1/messages is Anthropic's, POST /v1/chat/completions OpenAI's.
It answers out of what it was given: sentences, or short lines where subjects or titles are asked for. Offered tools, it
calls the first one once per user message and then answers. Usage is a quarter of the bytes; a system text of 200 bytes
and more counts as written to the cache the first time, as read from it later.

What goes wrong is chosen by the model's name, behind a "+" ("claude-x+cut"); "-once" behind it lets only the first
request of that model fail:
    429 (Retry-After: 1) · 529 · 500 · 400 · cut (in the middle) · drop (no answer) · garbage · deep · slow (30 s) ·
    error (an error event in a stream) · badargs (tool arguments that are no JSON) · cold (no tool calls)
Each request is one line of the log: {"api", "model", "stream", "status", "mode", "usage", "request"}.
"""
import argparse
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refused(Exception):
    def __init__(self, status, kind, text, headers=()):
        super().__init__(text)
        self.status, self.kind, self.text, self.headers = status, kind, text, dict(headers)


class State:
    def __init__(self, args):
        self.key, self.seen, self.cached, self.n = args.key, set(), set(), 0
        self.lock = threading.Lock()
        self.log_fd = os.open(args.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if args.log else None

    def mode(self, model):
        """The mode that this request meets."""
        _, _, mode = model.partition("+")
        if mode.endswith("-once"):
            with self.lock:
                first = model not in self.seen
                self.seen.add(model)
            mode = mode[:-5] if first else ""
        return mode

    def cache(self, system):
        with self.lock:
            known = system in self.cached
            self.cached.add(system)
        return known

    def log(self, entry):
        if self.log_fd is not None:
            os.write(self.log_fd, (json.dumps(entry) + "\n").encode())

    def number(self):
        with self.lock:
            self.n += 1
            return self.n


def tokens(text):
    return (len(text.encode()) + 3) // 4


def fill(schema, text):
    """Arguments that fit the schema of a tool, out of the words of the text."""
    words = re.findall(r"[A-Za-z]{4,}", text) or ["nothing"]
    out = {}
    for i, name in enumerate(schema.get("required") or list(schema.get("properties", {}))[:1]):
        prop = schema.get("properties", {}).get(name, {})
        kind = prop.get("type", "string")
        if "enum" in prop:
            out[name] = prop["enum"][0]
        elif kind == "integer" or kind == "number":
            out[name] = max(1, prop.get("minimum", 1))
        elif kind == "boolean":
            out[name] = True
        elif kind == "array":
            out[name] = []
        elif kind == "object":
            out[name] = {}
        else:
            out[name] = " ".join(words[i:i + 3])
    return out


def answer_text(task, material, limit):
    """Something that a reader of the material would accept: its own sentences, or lines cut from them."""
    source = material or task
    sentences = [s.strip() for s in re.split(r"(?<=[.!?])\s+|\n+", source) if len(s.split()) >= 4]
    sentences = [re.sub(r"^[-*#>\d. ]+", "", s) for s in sentences]
    if re.search(r"subject|title|headline", task, re.I):
        m = re.search(r"\b(\d{1,2})\b", task)
        count = int(m.group(1)) if m and 0 < int(m.group(1)) <= 20 else 3
        lines = [" ".join(s.split()[:7]).rstrip(".,;:!?") for s in sentences]
        lines = list(dict.fromkeys(lines))[:count]
        return json.dumps(lines) if "json" in task.lower() else "\n".join(lines)
    out = ""
    for s in list(dict.fromkeys(sentences)):
        if len(out) + len(s) > min(limit * 4, 2400):
            break
        out += ("\n\n" if out else "") + s
    return out or source[:limit * 4]


class Reply:
    """What is answered, whatever the API."""

    def __init__(self, state, model, system, task, material, tools, answered, limit, mode):
        self.n = state.number()
        self.model = model.partition("+")[0]
        self.text, self.call = "", None
        if tools and not answered and mode != "cold":
            name, schema = tools[0]
            self.call = (name, fill(schema, task))
        else:
            self.text = answer_text(task, material, limit)
        given = tokens(system + task + material)
        self.read = self.write = 0
        if len(system.encode()) >= 200:
            if state.cache(system):
                self.read = tokens(system)
            else:
                self.write = tokens(system)
        self.input = max(1, given - self.read - self.write)
        self.output = max(1, tokens(self.text or json.dumps(self.call)))
        self.length = self.output > limit
        self.output = min(self.output, limit)

    def pieces(self):
        return [self.text[i:i + 24] for i in range(0, len(self.text), 24)]

    def arguments(self, mode):
        return '{"broken": ' if mode == "badargs" else json.dumps(self.call[1])


# --- Anthropic ----------------------------------------------------------------------------------------------------

def anthropic_read(state, headers, body):
    if headers.get("anthropic-version") != "2023-06-01":
        raise Refused(400, "invalid_request_error", "anthropic-version: header is required")
    if state.key and headers.get("x-api-key") != state.key:
        raise Refused(401, "authentication_error", "invalid x-api-key")
    if not isinstance(body.get("max_tokens"), int):
        raise Refused(400, "invalid_request_error", "max_tokens: Field required")
    system, task, material, answered, open_calls = body.get("system", ""), "", [], False, set()
    if not body.get("messages"):
        raise Refused(400, "invalid_request_error", "messages: at least one message is required")
    for m in body["messages"]:
        content = m["content"] if isinstance(m["content"], list) else [{"type": "text", "text": m["content"]}]
        if m["role"] not in ("user", "assistant"):
            raise Refused(400, "invalid_request_error", f"messages: Unexpected role \"{m['role']}\"")
        results = {b["tool_use_id"] for b in content if b["type"] == "tool_result"}
        if open_calls - results or results - open_calls:
            raise Refused(400, "invalid_request_error", "messages: `tool_use` ids were found without `tool_result` blocks "
                          "immediately after, or the reverse")
        open_calls = {b["id"] for b in content if b["type"] == "tool_use"}
        for b in content:
            if b["type"] == "tool_result":
                answered = True
                material.append(b["content"])
            elif b["type"] == "text" and m["role"] == "user":
                material += [task] if task else []
                task, answered = b["text"], False
            elif b["type"] == "tool_use" and not isinstance(b["input"], dict):
                raise Refused(400, "invalid_request_error", "tool_use.input: Input should be a valid dictionary")
    tools = []
    for t in body.get("tools", []):
        if t["input_schema"].get("type") != "object":
            raise Refused(400, "invalid_request_error", "tools.0.input_schema.type: Field required")
        tools.append((t["name"], t["input_schema"]))
    return system, task, "\n\n".join(material), tools, answered, body["max_tokens"]


def anthropic_usage(r):
    return {"input_tokens": r.input, "cache_creation_input_tokens": r.write, "cache_read_input_tokens": r.read,
            "cache_creation": {"ephemeral_5m_input_tokens": r.write, "ephemeral_1h_input_tokens": 0},
            "output_tokens": r.output, "service_tier": "standard"}


def anthropic_stop(r):
    return "tool_use" if r.call else "max_tokens" if r.length else "end_turn"


def anthropic_whole(r, mode):
    content = [{"type": "text", "text": r.text}] if r.text else []
    if r.call:
        content.append({"type": "tool_use", "id": f"toolu_{r.n:06d}", "name": r.call[0], "input": r.call[1]})
    return {"id": f"msg_{r.n:06d}", "type": "message", "role": "assistant", "model": r.model, "content": content,
            "stop_reason": anthropic_stop(r), "stop_sequence": None, "usage": anthropic_usage(r)}


def anthropic_events(r, mode):
    start = anthropic_whole(r, mode) | {"content": [], "stop_reason": None}
    start["usage"] = anthropic_usage(r) | {"output_tokens": 1}
    yield "message_start", {"message": start}
    yield "ping", {}
    if r.call:
        block = {"type": "tool_use", "id": f"toolu_{r.n:06d}", "name": r.call[0], "input": {}}
        text = r.arguments(mode)
        deltas = [{"type": "input_json_delta", "partial_json": text[i:i + 9]} for i in range(0, len(text), 9)]
    else:
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": p} for p in r.pieces()]
    yield "content_block_start", {"index": 0, "content_block": block}
    for d in deltas:
        yield "content_block_delta", {"index": 0, "delta": d}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": anthropic_stop(r), "stop_sequence": None},
                            "usage": {"output_tokens": r.output}}
    yield "message_stop", {}


def anthropic_stream(r, mode):
    events = list(anthropic_events(r, mode))
    if mode == "error":
        events = events[:4] + [("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})]
    return [f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n" for name, data in events]


def anthropic_error(e):
    return {"type": "error", "error": {"type": e.kind, "message": e.text}, "request_id": "req_000001"}


# --- OpenAI -------------------------------------------------------------------------------------------------------

def openai_read(state, headers, body):
    if state.key and headers.get("authorization") != "Bearer " + state.key:
        raise Refused(401, "invalid_request_error", "Incorrect API key provided")
    system, task, material, answered, open_calls = "", "", [], False, set()
    if not body.get("messages"):
        raise Refused(400, "invalid_request_error", "Missing required parameter: 'messages'")
    for m in body["messages"]:
        if m["role"] == "tool":
            if m["tool_call_id"] not in open_calls:
                raise Refused(400, "invalid_request_error", "messages with role 'tool' must be a response to a preceding "
                              "message with 'tool_calls'")
            open_calls.discard(m["tool_call_id"])
            answered = True
            material.append(m["content"])
            continue
        if open_calls:
            raise Refused(400, "invalid_request_error", "tool_call_ids did not have response messages")
        if m["role"] == "system":
            system = m["content"]
        elif m["role"] == "user":
            material += [task] if task else []
            task, answered = m["content"], False
        for c in m.get("tool_calls", []):
            json.loads(c["function"]["arguments"])
            open_calls.add(c["id"])
    tools = [(t["function"]["name"], t["function"].get("parameters", {})) for t in body.get("tools", [])]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 4096
    return system, task, "\n\n".join(material), tools, answered, limit


def openai_usage(r):
    prompt = r.input + r.read + r.write
    return {"prompt_tokens": prompt, "completion_tokens": r.output, "total_tokens": prompt + r.output,
            "prompt_tokens_details": {"cached_tokens": r.read, "cache_write_tokens": r.write, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                          "rejected_prediction_tokens": 0}}


def openai_stop(r):
    return "tool_calls" if r.call else "length" if r.length else "stop"


def openai_whole(r, mode):
    message = {"role": "assistant", "content": r.text if not r.call else None, "refusal": None, "annotations": []}
    if r.call:
        message["tool_calls"] = [{"id": f"call_{r.n:06d}", "type": "function",
                                  "function": {"name": r.call[0], "arguments": r.arguments(mode)}}]
    return {"id": f"chatcmpl-{r.n:06d}", "object": "chat.completion", "created": int(time.time()), "model": r.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": openai_stop(r)}],
            "usage": openai_usage(r), "service_tier": "default", "system_fingerprint": "fp_0"}


def openai_stream(r, mode, with_usage):
    base = {"id": f"chatcmpl-{r.n:06d}", "object": "chat.completion.chunk", "created": int(time.time()), "model": r.model,
            "service_tier": "default", "system_fingerprint": "fp_0"}

    def chunk(delta, finish=None):
        out = base | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        return out | ({"usage": None} if with_usage else {})

    chunks = [chunk({"role": "assistant", "content": None if r.call else "", "refusal": None})]
    if r.call:
        text = r.arguments(mode)
        chunks.append(chunk({"tool_calls": [{"index": 0, "id": f"call_{r.n:06d}", "type": "function",
                                             "function": {"name": r.call[0], "arguments": ""}}]}))
        chunks += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": text[i:i + 9]}}]})
                   for i in range(0, len(text), 9)]
    else:
        chunks += [chunk({"content": p}) for p in r.pieces()]
    chunks.append(chunk({}, openai_stop(r)))
    if with_usage:
        chunks.append(base | {"choices": [], "usage": openai_usage(r)})
    if mode == "error":
        chunks = chunks[:3] + [{"error": {"message": "The server had an error", "type": "server_error"}}]
    return [f"data: {json.dumps(c)}\n\n" for c in chunks] + ([] if mode == "error" else ["data: [DONE]\n\n"])


def openai_error(e):
    return {"error": {"message": e.text, "type": e.kind, "param": None, "code": None}}


# --- server -------------------------------------------------------------------------------------------------------

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def send(self, status, body, headers=(), cut=False):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for k, v in dict(headers).items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:len(body) // 2] if cut else body)
        if cut:
            self.drop()

    def drop(self):
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.05)  # so that what was sent arrives before the reset
        self.connection.close()
        self.close_connection = True

    def stream(self, events, cut):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for e in events[:max(3, len(events) // 2)] if cut else events:
            data = e.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if cut:
            self.drop()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def fail(self, mode):
        """The modes that need no answer of the model."""
        if mode == "429":
            raise Refused(429, "rate_limit_error", "Number of requests has exceeded your rate limit", {"Retry-After": "1"})
        if mode == "529":
            raise Refused(529, "overloaded_error", "Overloaded")
        if mode == "500":
            raise Refused(500, "api_error", "Internal server error")
        if mode == "400":
            raise Refused(400, "invalid_request_error", "prompt is too long")
        if mode == "slow":
            time.sleep(30)

    def respond(self, anthropic, body, mode):
        state = self.server.state
        read = anthropic_read if anthropic else openai_read
        given = read(state, self.headers, body)
        self.fail(mode)
        if mode == "drop":
            self.drop()
            return None
        if mode in ("garbage", "deep"):
            self.send(200, b"<html>nope</html>" if mode == "garbage" else b'{"content":' + b"[" * 100000)
            return None
        r = Reply(state, body["model"], *given, mode)
        if body.get("stream"):
            with_usage = body.get("stream_options", {}).get("include_usage", False)
            events = anthropic_stream(r, mode) if anthropic else openai_stream(r, mode, with_usage)
            self.stream(events, mode == "cut")
        else:
            whole = anthropic_whole(r, mode) if anthropic else openai_whole(r, mode)
            self.send(200, json.dumps(whole).encode(), cut=mode == "cut")
        return anthropic_usage(r) if anthropic else openai_usage(r)

    def do_POST(self):
        anthropic = self.path == "/v1/messages"
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        entry = {"api": "anthropic" if anthropic else "openai", "status": 200}
        try:
            if not anthropic and self.path not in ("/v1/chat/completions", "/chat/completions"):
                raise Refused(404, "not_found_error", "Not found")
            try:
                body = json.loads(raw)
                mode = self.server.state.mode(body["model"])
                entry |= {"model": body["model"], "stream": bool(body.get("stream")), "mode": mode, "request": body}
                entry["usage"] = self.respond(anthropic, body, mode)
            except (ValueError, KeyError, TypeError, AttributeError) as e:
                raise Refused(400, "invalid_request_error", f"{type(e).__name__}: {e}") from e
        except Refused as e:
            entry["status"] = e.status
            self.send(e.status, json.dumps(anthropic_error(e) if anthropic else openai_error(e)).encode(), e.headers)
        except OSError:
            self.close_connection = True
        self.server.state.log(entry)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that went away


def exit_with_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="")
    parser.add_argument("--log", default="")
    parser.add_argument("--while-stdin", action="store_true", help="exit when stdin ends")
    args = parser.parse_args()
    server = Server(("127.0.0.1", args.port), Handler)
    server.state = State(args)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    if args.while_stdin:
        threading.Thread(target=exit_with_stdin, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
