// What runs in the browser: every client with every case. The API is known from the descriptors alone.
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";

async function registry() {
  const bytes = await (await fetch("/api.pb")).arrayBuffer();
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, new Uint8Array(bytes)));
}

function assert(condition, found) {
  if (!condition) throw new Error(`found ${found instanceof Error ? found : JSON.stringify(found, (_, value) => (typeof value === "bigint" ? String(value) : value))}`);
}

/** The error of a call that must fail. */
async function refused(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("the call succeeds");
}

const BIG = "x".repeat(3 << 20);
const SAID = "as you said: 100 %, über\nalles";

/** `ErrorInfo`, without its own descriptors: field 1 is the reason. */
const reason = (value) => new TextDecoder().decode(value.subarray(2, 2 + value[1]));

// --- @connectrpc/connect-web ---

async function connectWeb(address) {
  const service = (await registry()).getService("demo.echo.Echo");
  return createClient(service, createGrpcWebTransport({ baseUrl: `http://${address}` }));
}

const connect = {
  async unary(client) {
    let served;
    const note = await client.getNote({ name: "notes/7" }, { onHeader: (headers) => (served = headers.get("x-served-by")) });
    assert(note.size === 9007199254740993n && served === "echo", [note, served]);
  },
  async "server stream"(client) {
    let count = 0;
    for await (const event of client.watchNotes({ count: 1000 })) assert(event.bookmark === String(++count), event);
    assert(count === 1000, count);
  },
  async "stream message by message"(client) {
    // The second message is asked for only after the first was seen: nothing waits for the whole.
    const stop = new AbortController();
    const seen = [];
    const error = await refused(async () => {
      for await (const event of client.watchNotes({ count: 1000, pauseMs: 200 }, { signal: stop.signal })) {
        seen.push(event.bookmark);
        if (seen.length === 2) stop.abort();
      }
    });
    // More of them may have been here already when this page was slow.
    assert(ConnectError.from(error).code === Code.Canceled && seen.length >= 2 && seen.length < 1000, seen);
  },
  async error(client) {
    const error = await refused(() => client.getNote({ name: "notes/none" }));
    assert(error.code === Code.NotFound && error.rawMessage === "there is no such note", error);
  },
  async "error with details"(client) {
    const error = await refused(() => client.behave({ code: 9, details: true }));
    assert(error.code === Code.FailedPrecondition && error.rawMessage === SAID, error);
    assert(error.details[0].type === "google.rpc.ErrorInfo" && reason(error.details[0].value) === "AS_YOU_SAID", error.details);
  },
  async "trailers of a stream that fails"(client) {
    let seen = 0;
    const error = await refused(async () => {
      for await (const _ of client.watchNotes({ count: 3, fail: true })) seen++;
    });
    assert(seen === 3 && error.code === Code.Aborted && error.metadata.get("x-notes-sent") === "3", error);
  },
  async deadline(client) {
    const error = await refused(() => client.behave({ sleepMs: 60000 }, { timeoutMs: 500 }));
    assert(error.code === Code.DeadlineExceeded, error);
  },
  async metadata(client) {
    const { metadata } = await client.behave({}, { headers: { "x-note": "a value" }, timeoutMs: 60000 });
    assert(metadata["x-note"] === "a value" && metadata["grpc-timeout"], metadata);
  },
  async "big messages"(client) {
    const note = await client.createNote({ note: { title: BIG }, noteId: "big" });
    assert(note.title === BIG, note.title.length);
    const error = await refused(() => client.createNote({ note: { title: BIG + BIG } }));
    assert(error.code === Code.ResourceExhausted, error);
  },
};

// --- grpc-web, in both formats ---

const grpcWeb = (format) => async (address) => {
  const service = (await registry()).getService("demo.echo.Echo");
  const client = new GrpcWebClientBase({ format });
  const call = (name, fields) => {
    const method = service.methods.find((one) => one.name === name);
    const kind = method.methodKind === "unary" ? MethodType.UNARY : MethodType.SERVER_STREAMING;
    const descriptor = new MethodDescriptor(`/demo.echo.Echo/${name}`, kind, Object, Object,
      (request) => toBinary(method.input, request), (bytes) => fromBinary(method.output, bytes));
    return [`http://${address}/demo.echo.Echo/${name}`, create(method.input, fields), descriptor];
  };
  return {
    unary(name, fields, metadata = {}) {
      const [url, request, descriptor] = call(name, fields);
      return new Promise((resolve, reject) => {
        client.rpcCall(url, request, metadata, descriptor, (error, response) => (error ? reject(error) : resolve(response)));
      });
    },
    stream(name, fields, metadata = {}) {
      const [url, request, descriptor] = call(name, fields);
      return new Promise((resolve) => {
        const seen = { messages: [] };
        const stream = client.serverStreaming(url, request, metadata, descriptor);
        stream.on("data", (message) => seen.messages.push(message));
        stream.on("status", (status) => (seen.status = status));
        stream.on("error", (error) => resolve({ ...seen, error }));
        stream.on("end", () => resolve(seen));
      });
    },
  };
};

const web = {
  async unary({ unary }) {
    const note = await unary("GetNote", { name: "notes/7" });
    assert(note.size === 9007199254740993n, note);
  },
  async "server stream"({ stream }) {
    const { messages, error } = await stream("WatchNotes", { count: 1000 });
    assert(messages.length === 1000 && messages[999].bookmark === "1000" && !error, error ?? messages.length);
  },
  async error({ unary }) {
    const error = await refused(() => unary("GetNote", { name: "notes/none" }));
    assert(error.code === 5 && error.message === "there is no such note", error);
  },
  async "error with details"({ unary }) {
    const error = await refused(() => unary("Behave", { code: 9, details: true }));
    assert(error.code === 9 && error.message === SAID, error);
    assert(error.metadata["grpc-status-details-bin"], error.metadata);
  },
  async "trailers of a stream that fails"({ stream }) {
    const { messages, error } = await stream("WatchNotes", { count: 3, fail: true });
    assert(messages.length === 3 && error.code === 10 && error.metadata["x-notes-sent"] === "3", error);
  },
  async deadline({ unary }) {
    const error = await refused(() => unary("Behave", { sleepMs: 60000 }, { deadline: String(Date.now() + 2000) }));
    assert(error.code === 4, error);
  },
  async metadata({ unary }) {
    const { metadata } = await unary("Behave", {}, { "x-note": "a value" });
    assert(metadata["x-note"] === "a value", metadata);
  },
  async "big messages"({ unary }) {
    const note = await unary("CreateNote", { note: { title: BIG }, noteId: "big" });
    assert(note.title === BIG, note.title.length);
  },
};

// --- what every browser has ---

const builtIn = {
  WebSocket: (address) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${address}/v1/rooms/1:talk`, ["json", "bearer.some-token"]);
    const heard = [];
    socket.onopen = () => socket.send(JSON.stringify({ title: "one" }));
    socket.onmessage = ({ data }) => {
      heard.push(JSON.parse(data).title);
      socket.send(heard.length === 1 ? JSON.stringify({ title: "two" }) : "");
    };
    socket.onclose = ({ code }) => (code === 1000 && heard.join() === "re: one,re: two" ? resolve() : reject(new Error(`${code} ${heard}`)));
  }),
  "EventSource that goes on where it was": (address) => new Promise((resolve, reject) => {
    // The server ends after three; the browser asks again, by itself, for what comes after the third.
    const source = new EventSource(`http://${address}/v1/notes:watch?count=3`);
    const heard = [];
    let opened = 0;
    source.onopen = () => {
      if (++opened < 2) return;
      source.close();
      setTimeout(() => (heard.join() === "1,2,3" ? resolve() : reject(new Error(heard.join()))), 500);
    };
    source.onmessage = ({ data, lastEventId }) => heard.push(JSON.parse(data).bookmark === lastEventId ? lastEventId : "another");
  }),
  "fetch of lines": async (address) => {
    const response = await fetch(`http://${address}/v1/notes:watch?count=100`);
    const lines = (await response.text()).trim().split("\n").map((line) => JSON.parse(line));
    assert(lines.length === 100, lines.length);
  },
};

const clients = {
  "connect-web": [connectWeb, connect],
  "grpc-web text": [grpcWeb("text"), web],
  "grpc-web binary": [grpcWeb("binary"), Object.fromEntries(Object.entries(web).filter(([name]) => !/stream/.test(name)))],
  browser: [async (address) => address, builtIn],
};
globalThis.cases = () => Object.fromEntries(Object.entries(clients).map(([name, [, cases]]) => [name, Object.keys(cases)]));
/** The failure, or nothing. */
globalThis.run = async (address, client, name) => {
  const [open, cases] = clients[client];
  try {
    await cases[name](await open(address));
    return "";
  } catch (error) {
    return `${error?.stack ?? error}`;
  }
};
