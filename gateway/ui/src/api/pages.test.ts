import { describe, expect, it } from "vitest";
import { everything } from "./pages";

describe("a list of several pages", () => {
  it("is asked for to its end", async () => {
    const asked: string[] = [];
    const found = await everything("names", (token) => {
      asked.push(token);
      const at = Number(token);
      return Promise.resolve({ names: [`n${at}`], nextPageToken: at < 2 ? String(at + 1) : "" });
    });
    expect(found).toEqual({ names: ["n0", "n1", "n2"], nextPageToken: "" });
    expect(asked).toEqual(["", "1", "2"]);
  });
  it("that never ends is an error", async () => {
    const endless = () => Promise.resolve({ names: [] as string[], nextPageToken: "more" });
    await expect(everything("names", endless)).rejects.toThrow("1000 pages");
  });
});
