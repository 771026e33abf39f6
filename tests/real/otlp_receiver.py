"""Receives OTLP over gRPC and prints one JSON line a span, decoded with the published protobufs.

Prints its port first; ends with its standard input.
"""

import json
import sys
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc


def value(attribute):
    kind = attribute.value.WhichOneof("value")
    return getattr(attribute.value, kind) if kind else None


class Receiver(rpc.TraceServiceServicer):
    def Export(self, request, context):
        for resource in request.resource_spans:
            owner = {a.key: value(a) for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    print(json.dumps({
                        "service": owner.get("service.name"),
                        "name": span.name,
                        "kind": span.kind,
                        "trace_id": span.trace_id.hex(),
                        "span_id": span.span_id.hex(),
                        "parent_span_id": span.parent_span_id.hex(),
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "attributes": {a.key: value(a) for a in span.attributes},
                    }, default=str), flush=True)
        return service.ExportTraceServiceResponse()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    rpc.add_TraceServiceServicer_to_server(Receiver(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


main()
