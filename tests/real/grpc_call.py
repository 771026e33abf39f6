"""Calls a method of grpc_server.py, and prints what came of each call as a line of JSON: `code`, `text` (the answer,
or the details) and `metadata` (the trailing).

usage: grpc_call.py HOST:PORT METHOD [--times N] [--timeout SECONDS] [--body TEXT] [--metadata NAME=VALUE]... [--stream]

With --stream each message of an answer is a line of its own before, whose code is MESSAGE.
"""

import argparse
import json
import sys

import grpc


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("method")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--body", default="")
    parser.add_argument("--metadata", action="append", default=[])
    parser.add_argument("--stream", action="store_true")
    return parser.parse_args()


def say(code, text, metadata=()):
    trailing = {name: value for name, value in metadata or () if isinstance(value, str)}
    print(json.dumps({"code": code, "text": text, "metadata": trailing}), flush=True)


def stream(call):
    for message in call:
        say("MESSAGE", message.decode())
    return b"", call


def main(asked):
    channel = grpc.insecure_channel(asked.target)
    path = f"/echo.Echo/{asked.method}"
    metadata = [tuple(field.split("=", 1)) for field in asked.metadata]
    rest = {"timeout": asked.timeout, "metadata": metadata}
    for _ in range(asked.times):
        try:
            if asked.stream:
                answer, call = stream(channel.unary_stream(path)(asked.body.encode(), **rest))
            else:
                answer, call = channel.unary_unary(path).with_call(asked.body.encode(), **rest)
            say(call.code().name, answer.decode(), call.trailing_metadata())
        except grpc.RpcError as error:
            say(error.code().name, error.details(), error.trailing_metadata())


sys.exit(main(arguments()))
