/** Cuts bytes into lines, whatever pieces they come in. */
export class Lines {
  private readonly decoder = new TextDecoder();
  private rest = "";

  /** The lines that are whole now. */
  take(bytes: Uint8Array): string[] {
    const parts = (this.rest + this.decoder.decode(bytes, { stream: true })).split("\n");
    this.rest = parts.pop() ?? "";
    return parts;
  }

  /** What was not ended by a line break; nothing more comes. */
  end(): string[] {
    const rest = this.rest + this.decoder.decode();
    this.rest = "";
    return rest === "" ? [] : [rest];
  }
}
