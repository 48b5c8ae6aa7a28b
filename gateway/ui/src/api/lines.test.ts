import { describe, expect, it } from "vitest";
import { Lines } from "./lines";

describe("lines", () => {
  it("are whole, whatever pieces the bytes come in", () => {
    const bytes = new TextEncoder().encode("première\n第二行\nno end");
    const lines = new Lines();
    const found = [...bytes].flatMap((byte) => lines.take(Uint8Array.of(byte)));
    expect(found).toEqual(["première", "第二行"]);
    expect([lines.end(), lines.end()]).toEqual([["no end"], []]);
  });
});
