"""A gRPC server of grpcio: raw bytes in and out, every kind of call. Prints its port, then serves.

usage: grpc_server.py [NAME]

/echo.Echo/Unary          the request, with `x-big` of the request in the trailers
/echo.Echo/ServerStream   the request, as many times as its first byte says
/echo.Echo/ClientStream   all requests, joined
/echo.Echo/Bidi           each request, as it comes
/echo.Echo/Slow           never answers within a deadline of a second
/echo.Echo/Fail           FAILED_PRECONDITION with a message that needs escaping
/echo.Echo/Name           the server's name
/echo.Echo/UnlessNamed    the server's name; of the server that the request names, UNAVAILABLE
/echo.Echo/Left           how many seconds are left until the deadline, or `none`
/echo.Echo/Watch          the server's name ten times a second, without an end
"""

import sys
import time
from concurrent import futures

import grpc

OPTIONS = [("grpc.max_metadata_size", 64 * 1024), ("grpc.max_receive_message_length", -1)]


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    big = metadata.get("x-big")
    if big:
        context.set_trailing_metadata((("x-big-length", str(len(big))),))
    context.send_initial_metadata((("x-client-id", metadata.get("weft-client-id", "")),))
    return request


def server_stream(request, context):
    for _ in range(request[0]):
        yield request


def client_stream(requests, context):
    return b"".join(requests)


def bidi(requests, context):
    yield from requests


def slow(request, context):
    for _ in range(50):
        if not context.is_active():
            break
        time.sleep(0.1)
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nein: 100 % übel\n")


NAME = sys.argv[1] if len(sys.argv) > 1 else "echo"


def name(request, context):
    return NAME.encode()


def unless_named(request, context):
    if request.decode() == NAME:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not me")
    return NAME.encode()


def left(request, context):
    remaining = context.time_remaining()
    # Without a deadline grpcio says what is left of all time.
    return b"none" if remaining is None or remaining > 1e9 else b"%f" % remaining


def watch(request, context):
    while context.is_active():
        yield NAME.encode()
        time.sleep(0.1)


class Echo(grpc.GenericRpcHandler):
    calls = {
        "/echo.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary),
        "/echo.Echo/ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "/echo.Echo/ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "/echo.Echo/Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "/echo.Echo/Slow": grpc.unary_unary_rpc_method_handler(slow),
        "/echo.Echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
        "/echo.Echo/Name": grpc.unary_unary_rpc_method_handler(name),
        "/echo.Echo/UnlessNamed": grpc.unary_unary_rpc_method_handler(unless_named),
        "/echo.Echo/Left": grpc.unary_unary_rpc_method_handler(left),
        "/echo.Echo/Watch": grpc.unary_stream_rpc_method_handler(watch),
    }

    def service(self, details):
        return self.calls.get(details.method)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=OPTIONS)
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()  # the parent closes it at the end
    server.stop(None)


main()
