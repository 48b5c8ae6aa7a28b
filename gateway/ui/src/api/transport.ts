import type { Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { authorize, type Tokens } from "./authorize";
import { baseUrl } from "./base";
import { timeoutOf } from "./method";

/** Without a token: only for the methods that everybody may call. */
export const publicTransport: Transport = createGrpcWebTransport({ baseUrl, defaultTimeoutMs: 15_000 });

/** With a token, and with each method's own deadline. */
export function authorizedTransport(tokens: Tokens): Transport {
  const inner = createGrpcWebTransport({ baseUrl, interceptors: [authorize(tokens)] });
  return {
    unary: (method, signal, timeout, header, input, context) =>
      inner.unary(method, signal, timeout ?? timeoutOf(method), header, input, context),
    stream: (method, signal, timeout, header, input, context) =>
      inner.stream(method, signal, timeout, header, input, context),
  };
}
