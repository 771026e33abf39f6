"""Calls grpc_server.py in every way and says what it saw: one line `ok NAME` or `FAILED NAME: why` a check.

usage: grpc_client.py HOST:PORT    (`http_proxy` in the environment is followed, by CONNECT)
"""

import sys
import threading

import grpc

OPTIONS = [("grpc.max_metadata_size", 64 * 1024), ("grpc.max_receive_message_length", -1)]
failed = False


def check(name, condition, detail=""):
    global failed
    if condition:
        print(f"ok {name}", flush=True)
    else:
        failed = True
        print(f"FAILED {name}: {detail}", flush=True)


def code_of(call):
    try:
        call()
        return grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return error.code(), error.details()


def bidi_in_lockstep(channel):
    """Each answer is awaited before the next request is sent: neither direction may be held back."""
    answered = threading.Semaphore(0)

    def requests():
        for number in range(20):
            yield b"%d" % number
            if not answered.acquire(timeout=10):
                return

    answers = []
    for answer in channel.stream_stream("/echo.Echo/Bidi")(requests(), timeout=30):
        answers.append(answer)
        answered.release()
    return answers == [b"%d" % number for number in range(20)]


def main(target):
    channel = grpc.insecure_channel(target, options=OPTIONS)
    unary = channel.unary_unary("/echo.Echo/Unary")
    check("unary", unary(b"hello", timeout=30) == b"hello")
    check("empty", unary(b"", timeout=10) == b"")
    large = bytes(range(256)) * 16384
    check("4 MiB message", unary(large, timeout=30) == large)

    big = "m" * 16_000
    answer, call = unary.with_call(b"x", timeout=10, metadata=(("x-big", big),))
    trailing = dict(call.trailing_metadata())
    check("16 kB of metadata", trailing.get("x-big-length") == str(len(big)), trailing)
    check("client identity", dict(call.initial_metadata()).get("x-client-id", "").startswith("spiffe://"),
          call.initial_metadata())

    stream = channel.unary_stream("/echo.Echo/ServerStream")
    check("server streaming", list(stream(b"\x64abc", timeout=10)) == [b"\x64abc"] * 100)
    collect = channel.stream_unary("/echo.Echo/ClientStream")
    check("client streaming", collect((b"%d," % n for n in range(100)), timeout=10)
          == b"".join(b"%d," % n for n in range(100)))
    check("bidirectional streaming", bidi_in_lockstep(channel))

    code, _ = code_of(lambda: channel.unary_unary("/echo.Echo/Slow")(b"", timeout=1))
    check("deadline", code == grpc.StatusCode.DEADLINE_EXCEEDED, code)
    code, details = code_of(lambda: channel.unary_unary("/echo.Echo/Fail")(b"", timeout=10))
    check("status", (code, details) == (grpc.StatusCode.FAILED_PRECONDITION, "nein: 100 % übel\n"), (code, details))
    code, _ = code_of(lambda: channel.unary_unary("/echo.Echo/Missing")(b"", timeout=10))
    check("unimplemented", code == grpc.StatusCode.UNIMPLEMENTED, code)
    return 1 if failed else 0


sys.exit(main(sys.argv[1]))
