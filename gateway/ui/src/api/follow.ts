import type { Client } from "@connectrpc/connect";
import { type OperationView } from "../state/operation";
import type { OperationService } from "./gen/upm/operation/v1/operation_pb";
import { operationView } from "./operations";
import { Watch } from "./watch";

const followed = new Map<string, Watch<OperationView>>();
/** Operations that are remembered; the oldest is forgotten first. */
const MOST = 200;

/** The watch over one operation; pages that show the same one share it. */
export function follow(client: Client<typeof OperationService>, name: string): Watch<OperationView> {
  const known = followed.get(name);
  if (known) return known;
  const watch = new Watch<OperationView>(
    async function* (_token, signal) {
      for await (const operation of client.watchOperation({ name }, { signal })) {
        yield { kind: "put", key: name, value: operationView(operation) };
        if (operation.done) yield { kind: "end" };
      }
    },
    // The stream says nothing between two changes, and steps may take minutes.
    { eager: true, silence: 0 },
  );
  const [oldest] = followed.keys();
  if (followed.size >= MOST && oldest !== undefined) followed.delete(oldest);
  followed.set(name, watch);
  return watch;
}
