import { connect, createServer, type Server, type Socket } from "node:net";

/** The network between the browser and a gateway; it can be cut. */
export class Wire {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  private whole = true;
  base = "";

  constructor(private readonly port: number) {}

  async open(): Promise<void> {
    const server = createServer((near) => {
      if (!this.whole) {
        near.destroy();
        return;
      }
      const far = connect(this.port, "127.0.0.1");
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.sockets.add(one);
        one.on("error", () => other.destroy());
        one.on("close", () => {
          this.sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
    this.server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    this.base = `http://127.0.0.1:${address.port}`;
  }

  /** Ends all connections, and lets nobody through until `mend`. */
  cut(): void {
    this.whole = false;
    for (const socket of this.sockets) socket.destroy();
  }

  mend(): void {
    this.whole = true;
  }

  close(): void {
    this.cut();
    this.server?.close();
  }
}
