import { defineConfig } from "vitest/config";

// One browser and one platform: one test after the other.
export default defineConfig({
  test: {
    include: ["e2e/*.e2e.ts"],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    bail: 1,
    sequence: { concurrent: false },
  },
});
