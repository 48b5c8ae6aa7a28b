"""Python's grpcio against the gateway: ADDRESS DESCRIPTORS."""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status

address, descriptors = sys.argv[1:]
files = descriptor_pb2.FileDescriptorSet()
with open(descriptors, "rb") as file:
    files.ParseFromString(file.read())
pool = descriptor_pool.DescriptorPool()
for one in files.file:
    pool.Add(one)
service = pool.FindServiceByName("demo.echo.Echo")
options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.enable_retries", 0)]
channel = grpc.insecure_channel(address, options=options)


def message(kind, /, **fields):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"demo.echo.{kind}"))(**fields)


def method(name):
    found = service.methods_by_name[name]
    answer = message_factory.GetMessageClass(found.output_type)
    kind = f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
    return getattr(channel, kind)(
        f"/demo.echo.Echo/{name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeds")


def unary():
    note, call = method("GetNote").with_call(message("GetNoteRequest", name="notes/7"), timeout=60)
    assert (note.name, note.size) == ("notes/7", 9007199254740993), note
    assert dict(call.initial_metadata())["x-served-by"] == "echo"
    assert call.code() is grpc.StatusCode.OK


def server_stream():
    notes = list(method("WatchNotes")(message("WatchNotesRequest", count=1000), timeout=60))
    assert [note.bookmark for note in notes] == [str(index + 1) for index in range(1000)]


def client_stream():
    notes = (message("Note", title=f"title {index}") for index in range(500))
    collected = method("CollectNotes")(notes, timeout=60)
    assert collected.count == 500 and collected.titles[499] == "title 499", collected.count


def both_streams():
    talk = method("Chat")((message("Note", title=str(index)) for index in range(100)), timeout=60)
    assert [note.title for note in talk] == [f"re: {index}" for index in range(100)]


def error():
    failed = refused(lambda: method("GetNote")(message("GetNoteRequest", name="notes/none"), timeout=60))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.NOT_FOUND, "there is no such note"), failed


def error_with_details():
    request = message("BehaveRequest", code=9, details=True)
    failed = refused(lambda: method("Behave")(request, timeout=60))
    assert failed.code() is grpc.StatusCode.FAILED_PRECONDITION, failed
    assert failed.details() == "as you said: 100 %, über\nalles", failed.details()
    status = rpc_status.from_call(failed)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info), status
    assert (info.reason, info.domain) == ("AS_YOU_SAID", "echo.demo"), info


def trailers():
    talk = method("WatchNotes")(message("WatchNotesRequest", count=3, fail=True), timeout=60)
    seen = []
    failed = refused(lambda: seen.extend(talk))
    assert failed.code() is grpc.StatusCode.ABORTED, failed
    assert dict(failed.trailing_metadata())["x-notes-sent"] == "3", failed.trailing_metadata()


def deadline():
    failed = refused(lambda: method("Behave")(message("BehaveRequest", sleep_ms=60000), timeout=0.5))
    assert failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED, failed


def metadata():
    sent = (("x-note", "a value"), ("x-note-bin", b"\x00\xff"))
    behaved = method("Behave")(message("BehaveRequest"), metadata=sent, timeout=60)
    assert behaved.metadata["x-note"] == "a value", behaved.metadata
    assert "grpc-timeout" in behaved.metadata, behaved.metadata


def big_messages():
    title = "x" * (3 << 20)
    request = message("CreateNoteRequest", note=message("Note", title=title), note_id="big")
    assert method("CreateNote")(request, timeout=60).title == title
    title = "x" * (5 << 20)
    request = message("CreateNoteRequest", note=message("Note", title=title))
    failed = refused(lambda: method("CreateNote")(request, timeout=60))
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, failed


def unknown_method():
    unknown = channel.unary_unary("/demo.echo.Echo/Nothing")
    failed = refused(lambda: unknown(b"", timeout=60))
    assert failed.code() is grpc.StatusCode.UNIMPLEMENTED, failed


def cancelled_stream():
    for _ in range(50):
        talk = method("WatchNotes")(message("WatchNotesRequest", count=1000, pause_ms=50), timeout=60)
        next(talk)
        talk.cancel()
    unary()


for case in (unary, server_stream, client_stream, both_streams, error, error_with_details, trailers, deadline, metadata,
             big_messages, unknown_method, cancelled_stream):
    case()
    print(f"client grpcio {grpc.__version__}, {case.__name__.replace('_', ' ')}: ok", flush=True)
