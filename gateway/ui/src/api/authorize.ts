import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

/** Who gives tokens. */
export interface Tokens {
  /** A token that lives for some seconds more; refreshes when there is none. `stale` is one that was refused. */
  token(stale?: string): Promise<string>;
}

/**
 * Puts the token on a call. A unary call whose token was refused is made once more with a new one. A stream whose token was refused ends;
 * the token is exchanged, so that whoever opens the stream again comes with a new one.
 */
export function authorize(tokens: Tokens): Interceptor {
  return (next) => async (request) => {
    const token = await tokens.token();
    request.header.set("authorization", `Bearer ${token}`);
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: heard(response.message, tokens, token) } : response;
    } catch (error) {
      if (request.stream) exchange(error, tokens, token);
      if (request.stream || ConnectError.from(error).code !== Code.Unauthenticated) throw error;
      const fresh = await tokens.token(token);
      request.header.set("authorization", `Bearer ${fresh}`);
      return next(request);
    }
  };
}

function exchange(error: unknown, tokens: Tokens, refused: string): void {
  // That the session has ended is said by the session itself.
  if (ConnectError.from(error).code === Code.Unauthenticated) tokens.token(refused).catch(() => undefined);
}

async function* heard<T>(messages: AsyncIterable<T>, tokens: Tokens, token: string): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (error) {
    exchange(error, tokens, token);
    throw error;
  }
}
