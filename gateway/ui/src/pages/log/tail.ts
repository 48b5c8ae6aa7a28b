import type { Client } from "@connectrpc/connect";
import type { Entry, OperatorLogService } from "../../api/gen/upm/operatorlog/v1/operatorlog_pb";
import { Watch } from "../../api/watch";

/** New entries; a stream that is cut goes on after the last one that came. */
export function tail(client: Client<typeof OperatorLogService>, filter: string): Watch<Entry> {
  let last: bigint | undefined;
  return new Watch<Entry>(
    async function* (_token, signal) {
      // Where it began is known before the stream is: of one that is cut before its first entry nothing is lost. The stream says nothing
      // while nothing happens; this answer says that the log can be reached.
      const { entries } = await client.listEntries({ pageSize: 1 }, { signal });
      last ??= entries[0]?.sequence ?? 0n;
      yield { kind: "bookmark", token: "begun" };
      for await (const entry of client.tailEntries({ filter, afterSequence: last }, { signal })) {
        last = entry.sequence;
        yield { kind: "put", key: entry.name, value: entry };
      }
    },
    { eager: true, silence: 0 },
  );
}
